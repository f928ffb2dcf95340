//! From a task's wake to its poll.

/// Where a task's header is when it is scheduled; the cookie of that probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderPlace {
    /// A register, by the number that instructions have for it.
    pub register: u32,
    /// `None` if it holds the header's address; else it holds an address, and the header's lies so
    /// many bytes behind it.
    pub offset: Option<i16>,
    /// A register, and what it must hold: an address, in bytes from the probe. Else no task is
    /// scheduled.
    pub guard: Option<(u32, i32)>,
}

impl HeaderPlace {
    const LOAD: u64 = 1 << 5;
    const GUARD: u64 = 1 << 6;
    const GUARD_REGISTER: u32 = 7;
    const OFFSET: u32 = 12;
    const GUARD_ADDRESS: u32 = 32;

    /// As a cookie.
    pub fn cookie(&self) -> u64 {
        let mut cookie = u64::from(self.register & 31);
        if let Some(offset) = self.offset {
            cookie |= Self::LOAD | u64::from(offset.cast_unsigned()) << Self::OFFSET;
        }
        if let Some((register, address)) = self.guard {
            cookie |= Self::GUARD
                | u64::from(register & 31) << Self::GUARD_REGISTER
                | u64::from(address.cast_unsigned()) << Self::GUARD_ADDRESS;
        }
        cookie
    }

    /// From a cookie.
    #[inline(always)]
    pub fn of(cookie: u64) -> Self {
        Self {
            register: cookie as u32 & 31,
            offset: (cookie & Self::LOAD != 0).then_some((cookie >> Self::OFFSET) as i16),
            guard: (cookie & Self::GUARD != 0).then_some((
                (cookie >> Self::GUARD_REGISTER) as u32 & 31,
                (cookie >> Self::GUARD_ADDRESS) as i32,
            )),
        }
    }
}

/// A task that has been scheduled and not polled since; an element of the map `WOKEN`, by its
/// header.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Woken {
    /// When.
    pub ns: u64,
    /// When the innermost poll began that was open on the thread which did it; 0 for none.
    pub poll_ns: u64,
    /// That thread, in loopprobe's pid namespace.
    pub tid: u32,
    /// Keeps the layout free of padding.
    pub reserved: u32,
}

/// How many tasks may be scheduled at a time; each takes some 80 bytes.
pub const MAX_WOKEN: u32 = 1 << 16;

crate::pod!(Woken);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_keeps_a_place() {
        for offset in [None, Some(0), Some(24), Some(-8)] {
            for guard in [None, Some((6, -0x12_3456)), Some((15, i32::MAX))] {
                let place = HeaderPlace {
                    register: 7,
                    offset,
                    guard,
                };
                assert_eq!(HeaderPlace::of(place.cookie()), place);
            }
        }
    }
}
