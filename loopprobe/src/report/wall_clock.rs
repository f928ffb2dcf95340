//! The time of day of an event.

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::model::Session;

/// Turns the session's monotonic times into local times of day.
#[derive(Clone, Copy, Debug)]
pub struct WallClock {
    start_ns: u64,
    start_unix_ns: u64,
}

impl WallClock {
    /// Takes times as nanoseconds since the Unix epoch: for events that come without a session's
    /// head.
    pub const UTC_EPOCH: Self = Self {
        start_ns: 0,
        start_unix_ns: 0,
    };

    /// The clock of a session, from the pair of times in its head.
    pub fn of(session: &Session) -> Self {
        Self {
            start_ns: session.start_ns,
            start_unix_ns: session.start_unix_ns,
        }
    }

    /// Nanoseconds since the Unix epoch of a monotonic time, which may lie before the session's
    /// start.
    pub fn unix_ns(&self, monotonic_ns: u64) -> u64 {
        if monotonic_ns >= self.start_ns {
            self.start_unix_ns
                .saturating_add(monotonic_ns - self.start_ns)
        } else {
            self.start_unix_ns
                .saturating_sub(self.start_ns - monotonic_ns)
        }
    }

    /// `12:03:11.238` in the local time zone.
    pub fn time_of_day(&self, monotonic_ns: u64) -> String {
        let unix_ns = self.unix_ns(monotonic_ns);
        let (hours, minutes, seconds) = local_time(unix_ns / 1_000_000_000);
        let millis = unix_ns / 1_000_000 % 1_000;
        format!("{hours:02}:{minutes:02}:{seconds:02}.{millis:03}")
    }
}

/// `2026-11-28T19:58:43.216289953Z`, of nanoseconds since the Unix epoch.
pub fn rfc3339(unix_ns: u64) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_ns))
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_default()
}

fn local_time(unix_seconds: u64) -> (i32, i32, i32) {
    let Ok(seconds) = unix_seconds.try_into() else {
        return (0, 0, 0);
    };
    let mut parts = std::mem::MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both pointers are to live values of the right type, and `localtime_r` keeps neither.
    // A zeroed `tm` is a valid one (integers and a nullable pointer), so it may be read even if the
    // call fails and leaves it alone.
    let parts = unsafe {
        libc::localtime_r(&raw const seconds, parts.as_mut_ptr());
        parts.assume_init()
    };
    (parts.tm_hour, parts.tm_min, parts.tm_sec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_and_after_the_start_are_on_the_same_clock() {
        let clock = WallClock {
            start_ns: 1_000,
            start_unix_ns: 5_000,
        };
        assert_eq!(clock.unix_ns(1_500), 5_500);
        assert_eq!(clock.unix_ns(400), 4_400);
    }

    #[test]
    fn a_time_of_day_has_milliseconds() {
        let text = WallClock::UTC_EPOCH.time_of_day(1_238_000_000);
        assert!(text.ends_with(":01.238"), "{text}");
        assert_eq!(text.len(), "12:03:11.238".len());
    }
}
