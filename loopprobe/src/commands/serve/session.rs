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
    Message,
    output::{SharedOutput, Target},
};
use crate::{
    cli::{GlobalArgs, ServeKeys},
    collect::{ObserveError, Observer, Options, Stop, ThresholdDial},
    export::{
        alert::{Alerts, Counts, Rules},
        metrics::Board,
    },
    model::{Sink, Sinks},
};

/// What all sessions share.
#[derive(Clone)]
pub struct Common {
    /// Where reports go.
    pub output: SharedOutput,
    /// Where figures are shown.
    pub board: Option<Arc<Board>>,
    /// For commands.
    pub environment: Vec<(String, String)>,
    /// Held by the one that attaches: prices are measured at functions of loopprobe's own.
    pub attaching: Arc<Mutex<()>>,
    /// To the fleet.
    pub news: Sender<Message>,
}

/// A session that runs, or is about to.
pub struct Running {
    /// Which process.
    pub target: Target,
    /// When that began, in the kernel's ticks: ids come again.
    pub started: u64,
    /// Set once its probes are in place.
    is_attached: Arc<AtomicBool>,
    stop: Stop,
    dial: ThresholdDial,
    rules: Option<Rules>,
    counts: Option<Counts>,
    thread: JoinHandle<Result<(), ObserveError>>,
}

impl Running {
    /// Begins to attach.
    ///
    /// # Errors
    ///
    /// If there is no thread or descriptor left.
    pub fn start(
        target: Target,
        started: u64,
        keys: &ServeKeys,
        global: &GlobalArgs,
        common: &Common,
    ) -> anyhow::Result<Self> {
        let (stop, dial) = (Stop::new()?, ThresholdDial::default());
        let options = Options {
            threshold_dial: Some(dial.clone()),
            ..keys.options(target.pid, global)
        };
        let alerts = keys
            .monitor
            .alert
            .options(options.threshold(), &common.environment);
        let alerts = alerts.map(Alerts::new);
        let (rules, counts) = (
            alerts.as_ref().map(Alerts::rules),
            alerts.as_ref().map(Alerts::counts),
        );
        let is_attached = Arc::<AtomicBool>::default();
        let session = Session {
            is_attached: Arc::clone(&is_attached),
            options,
            target: target.clone(),
            alerts,
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
            thread,
        })
    }

    /// Whether its probes are in place.
    pub fn is_attached(&self) -> bool {
        self.is_attached.load(Ordering::Relaxed)
    }

    /// Lets the process go, soon.
    pub fn stop(&self) {
        self.stop.trigger();
    }

    /// Whether it is over.
    pub fn is_over(&self) -> bool {
        self.thread.is_finished()
    }

    /// Takes over what can be changed meanwhile.
    pub fn follow(&self, keys: &ServeKeys, global: &GlobalArgs) {
        let options = keys.options(self.target.pid, global);
        self.dial.turn(options.threshold());
        if let Some(rules) = &self.rules {
            rules.set(keys.monitor.alert.filter(options.threshold()));
        }
    }

    /// How it ended, and what became of its alerts. Waits for it.
    pub fn end(self) -> (Target, Result<(), String>, Option<Counts>) {
        let outcome = match self.thread.join() {
            Ok(result) => result.map_err(|error| error.to_string()),
            Err(_) => Err("the session's thread panicked".to_owned()),
        };
        (self.target, outcome, self.counts)
    }
}

struct Session {
    is_attached: Arc<AtomicBool>,
    options: Options,
    target: Target,
    alerts: Option<Alerts>,
    common: Common,
    stop: Stop,
}

impl Session {
    fn run(self) -> Result<(), ObserveError> {
        let news = self.common.news.clone();
        let outcome = self.observe();
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
        observer.run(&mut sinks, &self.stop).map(drop)
    }
}
