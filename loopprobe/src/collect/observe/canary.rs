//! When loopprobe checks itself, and what is said if that fails.

use std::io;

use super::{Observer, changes::notice};
use crate::{
    attach::Record,
    collect::canary::{Canary, Verdict},
    model::{self, Sink},
};

/// What is to be said of the check before the first one is over.
pub(super) fn at_first(canary: Option<&Canary>) -> model::Canary {
    match canary {
        Some(canary) => canary.said.clone(),
        None => Canary::without("there are no probes to check: the process is watched"),
    }
}

impl Observer {
    /// Whether a record is of loopprobe's own block; then it has been taken.
    pub(super) fn is_canarys(&mut self, record: &Record<'_>) -> io::Result<bool> {
        match &mut self.canary {
            Some(canary) => canary
                .take(record, &mut self.kernel)
                .map_err(io::Error::other),
            None => Ok(false),
        }
    }

    /// Decides on the last block, and starts another one each minute.
    pub(super) fn check_itself(&mut self, all_seen: bool, sink: &mut dyn Sink) -> io::Result<()> {
        let now = self.span.now();
        let Some(canary) = &mut self.canary else {
            return Ok(());
        };
        let verdict = canary.decide(now, all_seen);
        let missing = canary.said.missing.join(", ");
        self.totals.canary = Some(canary.said.clone());
        let said = match verdict {
            None => None,
            Some(Verdict::Missing(time)) => Some(format!(
                "loopprobe's check of itself failed: a block of {time:?} in its own process did not come out whole (missing: \
                 {missing}); what blocks the process may not come out either"
            )),
            Some(Verdict::OutAgain) => {
                Some("loopprobe's check of itself succeeds again".to_owned())
            }
        };
        if let Some(said) = said {
            notice(sink, now, said)?;
        }
        self.begin_check(now)
    }

    /// At the session's end: what has come out by then counts, and one that has not is not decided.
    pub(super) fn decide_last_check(&mut self) {
        let now = self.span.now();
        if let Some(canary) = &mut self.canary {
            let _ = canary.decide(now, false);
            self.totals.canary = Some(canary.said.clone());
        }
    }

    fn begin_check(&mut self, now: u64) -> io::Result<()> {
        let Some(canary) = self.canary.as_mut().filter(|canary| canary.is_due(now)) else {
            return Ok(());
        };
        canary.begin(&self.options, now)?;
        self.configure()?;
        if let Some(canary) = &mut self.canary {
            canary.go();
        }
        Ok(())
    }
}
