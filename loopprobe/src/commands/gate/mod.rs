//! The gate for CI: whether a session has failed, told by the exit code, in words, as JUnit XML and
//! as marked lines.

mod annotations;
mod junit;
mod kinds;
mod place;

use std::{io, path::Path};

use self::kinds::{Kinds, Limits};
use super::{output_file::OutputFile, replay, say};
use crate::{
    cli::{Exit, GateArgs, GlobalArgs},
    model::{Budget, Event, Session, Sink, Summary},
    report::{Baseline, OwnTime, clean, words},
};

/// So many kinds of polls are told of, the worst first; JUnit has them all.
const MAX_TOLD: usize = 10;

/// Watches whether a session passes its limits, and whether it is worse than a baseline.
#[derive(Debug, Default)]
pub(super) struct Gate {
    limits: Limits,
    /// With what this session is compared, and as what the option named it.
    baseline: Option<(Baseline, String)>,
    now: OwnTime,
    kinds: Kinds,
    /// What is observed, if that is better said than by the process's name.
    program: Option<String>,
    junit: Option<OutputFile>,
    annotates: bool,
    session: Option<Session>,
    outcome: Option<Outcome>,
}

/// How a session did.
#[derive(Debug)]
struct Outcome {
    /// What went wrong, the worst of each limit first.
    failures: Vec<Failure>,
    summary: Summary,
}

/// A limit that a kind of poll did not keep.
#[derive(Clone, Debug)]
struct Failure {
    check: Check,
    /// The option with its value.
    limit: String,
    /// Which kind, as an index into the kinds. `None` for one that only the baseline's comparison
    /// knows.
    kind: Option<usize>,
    message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    Own,
    Wall,
    Baseline,
}

impl Gate {
    /// What was asked for. The baseline is read, and the JUnit file created, so that errors are
    /// known before the session.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or created.
    pub(super) fn new(args: &GateArgs, global: &GlobalArgs) -> anyhow::Result<Self> {
        let baseline = args.baseline.as_deref();
        let baseline = baseline.map(|path| read(path, global)).transpose()?;
        let junit = args.junit.as_deref().map(junit::file_name);
        let junit = junit.map(|path| OutputFile::create(&path)).transpose()?;
        Ok(Self {
            limits: Limits::new(args.fail_over, args.fail_over_wall),
            baseline,
            junit,
            annotates: args.annotates(),
            ..Self::default()
        })
    }

    /// Says what is observed.
    pub(super) fn name(&mut self, program: String) {
        self.program = Some(program);
    }

    fn is_wanted(&self) -> bool {
        !self.limits.is_empty() || self.baseline.is_some()
    }

    /// Tells on standard error what failed, and how the session ended, but for errors.
    pub(super) fn conclude(&self, global: &GlobalArgs) -> Exit {
        let Some(outcome) = &self.outcome else {
            return Exit::Done;
        };
        for failure in outcome.failures.iter().take(MAX_TOLD) {
            let Failure { limit, message, .. } = failure;
            say::failed(&format!("{limit}: {message}"));
            if self.annotates {
                let place = failure.kind.and_then(|kind| self.kinds.place(kind));
                anstream::eprintln!("{}", annotations::error(place, limit, message));
            }
        }
        if let Some(more @ 1..) = outcome.failures.len().checked_sub(MAX_TOLD) {
            say::failed(&format!("and {more} more"));
        }
        if self.is_wanted() && outcome.saw_nothing() && !global.quiet {
            let program = self.program.as_deref().unwrap_or("the process");
            say::remark(&format!(
                "no task was polled in {}, so nothing is said of its event loop",
                clean(program)
            ));
        }
        if self.is_wanted() && outcome.failures.is_empty() && outcome.missed_records() > 0 {
            say::warning(&format!(
                "{} of polls were lost: what failed may be among them",
                words::count(outcome.missed_records(), "record")
            ));
        }
        if self.is_wanted() {
            outcome.warn_of_pauses();
        }
        let failed = |check| {
            outcome
                .failures
                .iter()
                .any(|failure| failure.check == check)
        };
        if failed(Check::Own) || failed(Check::Wall) {
            Exit::OverLimit
        } else if failed(Check::Baseline) {
            Exit::WorseThanBaseline
        } else {
            Exit::Done
        }
    }

    fn end(&mut self, summary: &Summary) -> io::Result<()> {
        self.kinds.end();
        let mut failures = self.kinds.over(&self.limits);
        if let Some((baseline, name)) = &self.baseline {
            for worse in baseline.worse(&self.now) {
                let kind = self.kinds.like(&worse.kind);
                failures.push(Failure {
                    check: Check::Baseline,
                    limit: format!("--baseline {name}"),
                    kind,
                    message: format!(
                        "{}: {worse}",
                        kinds::describe(&worse.kind, kind.and_then(|kind| self.kinds.place(kind)))
                    ),
                });
            }
        }
        let outcome = Outcome {
            failures,
            summary: summary.clone(),
        };
        if let Some(file) = self.junit.take() {
            junit::write(self, &outcome, file)?;
        }
        self.outcome = Some(outcome);
        Ok(())
    }
}

impl Outcome {
    /// Whether there was nothing to judge.
    fn saw_nothing(&self) -> bool {
        self.summary.polls == Some(0) && self.summary.long_polls == 0
    }

    /// Says for how long nothing was seen.
    fn warn_of_pauses(&self) {
        let budget = self.summary.budget.as_deref();
        let unprobed_ns = budget.map_or(0, Budget::unprobed_ns);
        if unprobed_ns > 0 {
            say::warning(&format!(
                "the process was not looked at, or only watched, for {:?} (--max-overhead): what failed may have happened then",
                std::time::Duration::from_nanos(unprobed_ns)
            ));
        }
    }

    /// How many long polls, or their stacks, are not known of.
    fn missed_records(&self) -> u64 {
        self.summary.lost.as_ref().map_or(0, |lost| lost.events)
    }
}

impl Sink for Gate {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        if self.baseline.is_some() {
            self.now.event(event);
        }
        match event {
            Event::Session(session) => self.session = Some(session.clone()),
            Event::LongPoll(poll) => self.kinds.poll(poll, &self.limits),
            Event::Notice(_) | Event::Interval(_) | Event::Finding(_) => {}
            Event::Summary(summary) => self.end(summary)?,
        }
        Ok(())
    }
}

fn read(path: &Path, global: &GlobalArgs) -> anyhow::Result<(Baseline, String)> {
    let mut recorded = OwnTime::default();
    replay::each_event(path, global, &mut |event| {
        recorded.event(event);
    })?;
    Ok((Baseline::new(recorded), path.display().to_string()))
}
