//! When a session begins and ends. Both moments are told to the kernel side, which counts and sends
//! nothing outside them.

use std::{thread, time::Duration};

use loopprobe_common::records::{Kind, PollRecord};

use super::Observer;
use crate::{
    attach::AttachError,
    clock::{nanoseconds, now_ns},
    collect::stacks::Left,
};

/// How far ahead an end that was not foreseen is set, so that the kernel side knows of it in time.
const LEAD: Duration = Duration::from_millis(2);

/// A session's beginning and end, on the clock of `bpf_ktime_get_ns`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// `u64::MAX` before it has begun.
    pub start_ns: u64,
    /// `None` while that is not known.
    pub end_ns: Option<u64>,
}

impl Span {
    /// Nothing is counted yet.
    pub(super) const BEFORE: Self = Self {
        start_ns: u64::MAX,
        end_ns: None,
    };

    /// Begins now and, if a duration was asked for, ends after it.
    pub(super) fn begin(duration: Option<Duration>) -> Self {
        let start_ns = now_ns();
        Self {
            start_ns,
            end_ns: duration.map(|duration| start_ns.saturating_add(nanoseconds(duration))),
        }
    }

    /// The time, but none behind the end.
    pub(super) fn now(&self) -> u64 {
        self.end_ns.map_or_else(now_ns, |end| end.min(now_ns()))
    }

    /// Whether the end has come.
    pub(super) fn is_over(&self) -> bool {
        self.end_ns.is_some_and(|end| now_ns() >= end)
    }

    /// How long it is, up to now if its end is not known.
    pub(super) fn duration_ns(&self) -> u64 {
        self.now().saturating_sub(self.start_ns)
    }

    /// How much of a poll that ended later lies within the session; `None` if all of it does.
    fn cut(&self, record: &PollRecord) -> Option<u64> {
        self.end_ns.filter(|&end| record.end_ns > end)
    }
}

impl Observer {
    /// Ends the session: at the foreseen moment if that is near or past, else as soon as the kernel
    /// side can know of it. From then on it changes nothing, however long the detach takes.
    pub(super) fn close(&mut self) -> Result<(), AttachError> {
        let soon = now_ns() + nanoseconds(LEAD);
        if self.span.end_ns.is_none_or(|end| end > soon) {
            self.span.end_ns = Some(soon);
            let config = self.config();
            self.kernel.set_config(&config)?;
        }
        let rest_ns = self.span.end_ns.unwrap_or(0).saturating_sub(now_ns());
        thread::sleep(Duration::from_nanos(rest_ns));
        Ok(())
    }

    /// Cuts a poll at the end of the session: should the kernel side have learnt of that too late,
    /// it counts on. `None` if nothing remains of it that is long; else the poll, and whether it
    /// was still open at the end.
    pub(super) fn within(&mut self, mut record: PollRecord) -> Option<(PollRecord, bool)> {
        let Some(end_ns) = self.span.cut(&record) else {
            return Some((record, false));
        };
        let threshold_ns = nanoseconds(self.options.threshold);
        if record.kind == Kind::Root as u16 {
            record.end_ns = end_ns;
            let is_long = end_ns.saturating_sub(record.poll.start_ns) >= threshold_ns;
            return is_long.then_some((record, true));
        }
        let at_end = Left {
            ns: end_ns,
            blocked_ns: record.poll.blocked_ns,
            runnable_ns: record.poll.runnable_ns,
        };
        let is_long = self.shorten(&mut record, at_end);
        is_long.then_some((record, true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_with_a_duration_lasts_no_longer() {
        let span = Span::begin(Some(Duration::from_nanos(1)));
        thread::sleep(Duration::from_millis(1));
        assert!(span.is_over());
        assert_eq!(span.duration_ns(), 1);
        assert_eq!(span.now(), span.start_ns + 1);
    }

    #[test]
    fn a_session_without_a_duration_is_not_over() {
        assert!(!Span::begin(None).is_over());
        assert!(!Span::BEFORE.is_over());
    }
}
