use std::{
    io::{IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

use crate::cli::GlobalArgs;

/// What takes longer than this says so.
const PATIENCE: Duration = Duration::from_secs(1);

/// One line on a terminal's stderr while something takes long; wiped when it is done.
#[derive(Debug)]
pub struct Progress {
    what: String,
    steps: u64,
    since: Instant,
    shown: Option<Instant>,
    enabled: bool,
}

impl Progress {
    /// Begins something that may take long.
    pub fn new(global: &GlobalArgs, what: String) -> Self {
        Self {
            what,
            steps: 0,
            since: Instant::now(),
            shown: None,
            enabled: !global.quiet && std::io::stderr().is_terminal(),
        }
    }

    /// One event more has been handled.
    pub fn step(&mut self) {
        self.steps += 1;
        let due = self
            .shown
            .is_none_or(|shown| shown.elapsed() >= PATIENCE / 4);
        // A look at the clock for each event would cost more than the event.
        if self.steps.is_multiple_of(256) && due {
            self.show();
        }
    }

    /// Something else begins, which cannot be counted.
    pub fn now(&mut self, what: &str) {
        self.what = what.to_owned();
        self.show();
    }

    fn show(&mut self) {
        if !self.enabled || self.since.elapsed() < PATIENCE {
            return;
        }
        self.shown = Some(Instant::now());
        // Progress is not worth failing for.
        let _ = write!(
            anstream::stderr(),
            "\r\x1b[K{}: {} events, {}s",
            crate::report::clean(&self.what),
            self.steps,
            self.since.elapsed().as_secs()
        );
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown.is_some() {
            let _ = write!(anstream::stderr(), "\r\x1b[K");
        }
    }
}
