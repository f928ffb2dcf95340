use std::{io, time::Duration};

use crate::model::{Event, LongPoll, Sink, TaskKind};

/// Watches for polls longer than the limit that the user gave with `--fail-over`.
#[derive(Debug)]
pub struct FailOver {
    limit_ns: Option<u128>,
    passed: bool,
}

impl FailOver {
    /// Watches for polls longer than `limit`; for none without one.
    pub fn new(limit: Option<Duration>) -> Self {
        Self {
            limit_ns: limit.map(|limit| limit.as_nanos()),
            passed: false,
        }
    }

    /// Whether a poll has passed the limit.
    pub fn passed(&self) -> bool {
        self.passed
    }

    fn is_over(&self, poll: &LongPoll) -> bool {
        let over = self
            .limit_ns
            .is_some_and(|limit| u128::from(poll.duration_ns) > limit);
        let perhaps = poll.task.kind == TaskKind::Root && !poll.task.certain;
        over && !poll.block_in_place && !perhaps
    }
}

impl Sink for FailOver {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        if let Event::LongPoll(poll) = event {
            self.passed |= self.is_over(poll);
        }
        Ok(())
    }
}
