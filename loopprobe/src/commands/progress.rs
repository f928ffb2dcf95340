//! A line on a terminal's standard error while something takes longer than a second.

use std::{
    io::{IsTerminal as _, Write as _},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{cli::GlobalArgs, report::clean};

/// What discovery does, in a few words.
pub(super) const SCANNING: &str = "looking for poll sites and their names";
/// What takes longer than this says so.
const PATIENCE: Duration = Duration::from_secs(1);

/// One line on a terminal's stderr while something takes longer than a second; wiped when dropped.
/// A thread of its own writes it, so that it also shows while nothing can be counted.
#[derive(Debug)]
pub(super) struct Progress {
    work: Arc<Work>,
    shown: Option<Shown>,
}

#[derive(Debug)]
struct Work {
    what: String,
    events: AtomicU64,
}

#[derive(Debug)]
struct Shown {
    /// Dropped when the work is done.
    working: Sender<()>,
    thread: JoinHandle<()>,
}

impl Progress {
    /// Begins something that may take long.
    pub(super) fn new(global: &GlobalArgs, what: impl Into<String>) -> Self {
        Self::shown_if(!global.quiet, what)
    }

    /// The same, with a further condition.
    pub(super) fn shown_if(wanted: bool, what: impl Into<String>) -> Self {
        let work = Arc::new(Work {
            what: what.into(),
            events: AtomicU64::new(0),
        });
        let shown = (wanted && std::io::stderr().is_terminal())
            .then(|| Shown::new(work.clone()))
            .flatten();
        Self { work, shown }
    }

    /// One event more has been handled.
    pub(super) fn step(&self) {
        self.work.events.fetch_add(1, Relaxed);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(Shown { working, thread }) = self.shown.take() {
            drop(working);
            let _ = thread.join();
        }
    }
}

impl Shown {
    /// `None` if there can be no thread: progress is not worth failing for.
    fn new(work: Arc<Work>) -> Option<Self> {
        let (working, done) = channel();
        let thread = thread::Builder::new()
            .name("progress".to_owned())
            .spawn(move || work.show_until(&done));
        let thread = thread.ok()?;
        Some(Self { working, thread })
    }
}

impl Work {
    fn show_until(&self, done: &Receiver<()>) {
        let since = Instant::now();
        let mut pause = PATIENCE;
        while done.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
            pause = PATIENCE / 4;
            self.show(since.elapsed());
        }
        if since.elapsed() >= PATIENCE {
            let _ = write!(anstream::stderr(), "\r\x1b[K");
        }
    }

    fn show(&self, elapsed: Duration) {
        let mut line = clean(&self.what).into_owned();
        match self.events.load(Relaxed) {
            0 => {}
            events => line += &format!(", {} events", crate::report::Count(events)),
        }
        let _ = write!(anstream::stderr(), "\r\x1b[K{line}: {}s", elapsed.as_secs());
    }
}
