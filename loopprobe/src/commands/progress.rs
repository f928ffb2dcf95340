use std::{
    io::{IsTerminal as _, Write as _},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread::{self, JoinHandle},
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

/// Says on a terminal that something which cannot be counted takes long; wiped when dropped.
#[derive(Debug)]
pub struct Waiting {
    done: Option<Sender<()>>,
    shown: Option<JoinHandle<()>>,
}

impl Waiting {
    /// Begins something that may take long.
    pub fn new(global: &GlobalArgs, what: &'static str) -> Self {
        let nothing = Self {
            done: None,
            shown: None,
        };
        if global.quiet || !std::io::stderr().is_terminal() {
            return nothing;
        }
        let (done, ended) = channel();
        let thread = thread::Builder::new().name("progress".to_owned());
        // Progress is not worth failing for.
        match thread.spawn(move || show_until(&ended, what)) {
            Ok(shown) => Self {
                done: Some(done),
                shown: Some(shown),
            },
            Err(_) => nothing,
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.done = None;
        if let Some(shown) = self.shown.take() {
            let _ = shown.join();
        }
    }
}

fn show_until(ended: &Receiver<()>, what: &str) {
    let since = Instant::now();
    let mut pause = PATIENCE;
    while ended.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
        pause = PATIENCE / 4;
        let seconds = since.elapsed().as_secs();
        let _ = write!(anstream::stderr(), "\r\x1b[K{what}: {seconds}s");
    }
    if since.elapsed() >= PATIENCE {
        let _ = write!(anstream::stderr(), "\r\x1b[K");
    }
}
