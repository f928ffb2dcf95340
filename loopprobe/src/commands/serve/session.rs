//! One process under observation, on a thread of its own.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::Sender,
    },
    thread::{self, JoinHandle},
};

use super::{
    super::monitor::{Exports, exports, tellers},
    Message,
    output::{SharedOutput, Target},
};
use crate::{
    attach::Loads,
    cli::{GlobalArgs, ServeKeys},
    collect::{ObserveError, Observer, Options, Stop, ThresholdDial},
    export::{
        alert::{Alerts, Counts, Rules},
        metrics::Board,
        remote::Exporter,
    },
    model::{Sink, Sinks},
    process::give_back_freed,
};

/// What all sessions share.
#[derive(Clone)]
pub(super) struct Common {
    /// Where reports go.
    pub output: SharedOutput,
    /// Where figures are shown.
    pub board: Option<Arc<Board>>,
    /// For commands.
    pub environment: Vec<(String, String)>,
    /// Held by the one that attaches: prices are measured at functions of loopprobe's own.
    pub attaching: Arc<Mutex<()>>,
    /// The kernel side.
    pub loads: Arc<Loads>,
    /// To the fleet.
    pub news: Sender<Message>,
}

/// A session that runs, or is about to.
pub(super) struct Running {
    /// Which process.
    pub target: Target,
    /// When that began, in the kernel's ticks: ids come again.
    pub started: u64,
    /// Set once its probes are in place.
    is_attached: Arc<AtomicBool>,
    stop: Stop,
    dial: ThresholdDial,
    rules: Rules,
    counts: Option<Counts>,
    exports: Exports,
    thread: JoinHandle<Result<(), ObserveError>>,
}

impl Running {
    /// Begins to attach.
    ///
    /// # Errors
    ///
    /// If there is no thread or descriptor left.
    pub(super) fn start(
        target: Target,
        started: u64,
        keys: &ServeKeys,
        global: &GlobalArgs,
        common: &Common,
    ) -> anyhow::Result<Self> {
        let (stop, dial) = (Stop::new()?, ThresholdDial::default());
        let options = Options {
            threshold_dial: Some(dial.clone()),
            loads: Some(Arc::clone(&common.loads)),
            ..keys.options(target.pid, global)
        };
        let (alerts, rules, exporters) = tellers(&keys.monitor, &options, &common.environment);
        let counts = alerts.as_ref().map(Alerts::counts);
        let exports = exports(&exporters);
        let is_attached = Arc::<AtomicBool>::default();
        let session = Session {
            is_attached: Arc::clone(&is_attached),
            options,
            target: target.clone(),
            alerts,
            exporters,
            common: common.clone(),
            stop: stop.clone(),
        };
        let thread = thread::Builder::new()
            .name("session".to_owned())
            .spawn(move || session.run())?;
        Ok(Self {
            target,
            started,
            is_attached,
            stop,
            dial,
            rules,
            counts,
            exports,
            thread,
        })
    }

    /// Whether its probes are in place.
    pub(super) fn is_attached(&self) -> bool {
        self.is_attached.load(Ordering::Relaxed)
    }

    /// Lets the process go, soon.
    pub(super) fn stop(&self) {
        self.stop.trigger();
    }

    /// Whether it is over.
    pub(super) fn is_over(&self) -> bool {
        self.thread.is_finished()
    }

    /// Takes over what can be changed meanwhile.
    pub(super) fn follow(&self, keys: &ServeKeys, global: &GlobalArgs) {
        let options = keys.options(self.target.pid, global);
        self.dial.turn(options.threshold());
        self.rules
            .set(keys.monitor.alert.filter(options.threshold()));
    }

    /// How it ended, and what became of its alerts and exports. Waits for it.
    pub(super) fn end(self) -> Ended {
        let outcome = match self.thread.join() {
            Ok(result) => result.map_err(|error| error.to_string()),
            Err(_) => Err("the session's thread panicked".to_owned()),
        };
        Ended {
            target: self.target,
            outcome,
            counts: self.counts,
            exports: self.exports,
        }
    }
}

/// What is left of a session.
pub(super) struct Ended {
    /// Of which process.
    pub target: Target,
    /// Whether it ended well.
    pub outcome: Result<(), String>,
    /// Of its alerts.
    pub counts: Option<Counts>,
    /// Of its exports.
    pub exports: Exports,
}

struct Session {
    is_attached: Arc<AtomicBool>,
    options: Options,
    target: Target,
    alerts: Option<Alerts>,
    exporters: Vec<Exporter>,
    common: Common,
    stop: Stop,
}

impl Session {
    fn run(self) -> Result<(), ObserveError> {
        let news = self.common.news.clone();
        let outcome = self.observe();
        // Of all threads: each has freed memory that the allocator keeps for that thread.
        give_back_freed();
        // The fleet may be gone.
        let _ = news.send(Message::Over);
        outcome
    }

    fn observe(self) -> Result<(), ObserveError> {
        let observer = {
            let attaching = &self.common.attaching;
            let _one = attaching.lock().unwrap_or_else(PoisonError::into_inner);
            Observer::attach(&self.options)?
        };
        self.is_attached.store(true, Ordering::Relaxed);
        let _ = self.common.news.send(Message::Attached);
        let mut sinks = Sinks::default();
        sinks.add(self.common.output.report(&self.target));
        if let Some(board) = &self.common.board {
            sinks.add(Box::new(board.panel(self.target.pid, &self.target.name)));
        }
        let alerts = self.alerts.map(|alerts| Box::new(alerts) as Box<dyn Sink>);
        sinks.extend(alerts);
        for exporter in self.exporters {
            sinks.add(Box::new(exporter));
        }
        observer.run(&mut sinks, &self.stop).map(drop)
    }
}
