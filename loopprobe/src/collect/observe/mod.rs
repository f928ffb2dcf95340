//! A session, from the attach to the summary.

mod asked;
mod attach;
mod budget;
mod canary;
mod changes;
mod closer;
mod driver_lag;
mod ending;
mod findings;
mod interval;
mod light;
mod live;
mod names;
mod no_polls;
mod open;
mod pool;
mod prepare;
mod price;
mod records;
mod retime;
mod root;
mod settings;
mod snapshot;
mod span;
mod stand_in;
mod stuck;
mod threshold;
mod waits;
mod watch;
mod watched_roots;

use std::{
    collections::HashSet,
    io,
    os::fd::{AsFd as _, OwnedFd},
    thread,
    time::Duration,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use self::{interval::Values, retime::Retiming, snapshot::Occasions, span::Span};
use super::{
    ObserveError, Options, Stop,
    auto_threshold::Fitting,
    budget::Budget,
    canary::Canary,
    findings::Findings,
    head::head,
    health::Health,
    images::Images,
    naming::Naming,
    poll_key::PollKey,
    polls::{Polls, open_polls},
    source::Source,
    stacks::Stacks,
    stuck::Stuck,
    stuck_tasks::StuckWatch,
    summary::Totals,
    workers::Workers,
};
use crate::{
    attach::{AttachError, DeadTime, Drain, Kernel, Messages, Method, Plan, PlannedImage},
    clock::{nanoseconds, now_ns},
    model::{Due, Event, Session, Sink, Summary},
    process,
};

/// A session that has been attached and not yet run.
pub struct Observer {
    options: Options,
    /// Whether samples are wanted, but refused by the kernel.
    unsampled: bool,
    kernel: Kernel,
    records: Drain,
    exit: OwnedFd,
    plan: Plan,
    images: Images,
    polls: Polls,
    /// As measured at the attach.
    dead_time: DeadTime,
    /// `None` if stacks are not wanted.
    stacks: Option<Stacks>,
    stuck: Option<Stuck>,
    /// A sentence about threads that could not be looked at, at the attach.
    unwalked: Option<String>,
    source: Source,
    /// Whether threads without a known poll are sampled.
    scans: bool,
    /// The programs' own messages, where they are wanted.
    messages: Option<Messages>,
    workers: Workers,
    totals: Totals,
    /// When the next snapshot is due.
    live: Due,
    health: Health,
    values: Values,
    /// For tasks that nothing wakes, and for those that live for long, where they are wanted.
    stuck_watches: Vec<StuckWatch>,
    /// What asks for snapshots.
    occasions: Occasions,
    findings: Findings,
    /// `None` for a threshold that was chosen.
    fitting: Option<Fitting>,
    span: Span,
    /// Held as long as its probes.
    planned: Vec<PlannedImage>,
    /// Until the session runs.
    measured: Option<Kernel>,
    /// Names that are still to come.
    naming: Naming,
    /// `None` if there are no probes.
    canary: Option<Canary>,
    /// `None` if it may cost what it costs.
    budget: Option<Budget>,
    retiming: Retiming,
}

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Observer")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Observer {
    /// The session's head.
    pub fn session(&self) -> Session {
        let mut session = head(&self.options, &self.plan, &self.images, self.span.start_ns);
        session.limits.extend(self.source.limits());
        if let Some(said) = &self.unwalked {
            session.limits.push(said.clone());
        }
        if self.unsampled {
            session.limits.push(settings::UNSAMPLED.into());
        }
        session
    }

    /// Whether a probe is a perf event here, for lack of `uprobe_multi` links. Placing one takes
    /// CAP_SYS_ADMIN since "perf: Revert to requiring CAP_SYS_ADMIN for uprobes" (Linux 6.16 and
    /// the stable kernels of that summer).
    pub fn places_perf_events(&self) -> bool {
        self.kernel.method() == Method::PerfEvent
    }

    /// Whether samples may be begun anew while it runs, on a kernel that refuses them to
    /// CAP_PERFMON (`settings::UNSAMPLED` says it).
    pub fn samples_later(&self) -> bool {
        (self.source.closer().is_some() || self.options.max_overhead.is_some())
            && process::perf_event_paranoid().is_some_and(|level| level > 2)
    }

    /// Reports until the end.
    ///
    /// # Errors
    ///
    /// [`ObserveError::Output`] if the sink fails; [`ObserveError::Attach`] if the kernel side
    /// does.
    pub fn run(mut self, sink: &mut dyn Sink, stop: &Stop) -> Result<Summary, ObserveError> {
        // The thread that empties the ring buffers has had what the attach needed until now.
        self.records.restart().map_err(ObserveError::System)?;
        self.begin_naming().map_err(ObserveError::System)?;
        // Not before: a thread keeps the rights that it began with.
        let measured = self.measured.take();
        thread::spawn(move || drop(measured));
        let result = self.report(sink, stop);
        let quiet = result.is_err();
        let (reason, failed) = match result {
            Ok(reason) => (reason, None),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                ("the output was closed", None)
            }
            // What the kernel side says comes through the same functions as what a sink says.
            Err(error) => match error.downcast::<AttachError>() {
                Ok(error) => ("the kernel side failed", Some(ObserveError::Attach(error))),
                Err(error) => ("the output failed", Some(ObserveError::Output(error))),
            },
        };
        self.totals.reason = reason.into();
        let mut summary = self.finish(sink, quiet)?;
        if let Some(lost) = &mut summary.lost {
            lost.unwritten_events = sink.dropped();
        }
        // A sink may stand for many, and those that have not failed want the end.
        let ended = write(sink, &Event::Summary(summary.clone()));
        match failed {
            Some(error) => Err(error),
            None => ended.map(|()| summary).map_err(ObserveError::Output),
        }
    }

    fn report(&mut self, sink: &mut dyn Sink, stop: &Stop) -> io::Result<&'static str> {
        sink.event(&Event::Session(self.session()))?;
        self.begin_health(sink.live_every())?;
        self.begin_stuck_watch();
        self.begin_budget()?;
        self.check_itself(false, sink)?;
        // Of what it took to find what to probe.
        process::give_back_freed();
        let look_every_ns = nanoseconds(self.options.look_every);
        let mut next_tick = now_ns() + look_every_ns;
        loop {
            let now = now_ns();
            if self.span.is_over() {
                return Ok("the duration is over");
            }
            let lacked_names = self.naming.is_busy();
            let lacks_names = self.lacks_names()?;
            if now >= next_tick || lacked_names && !lacks_names {
                next_tick = now + look_every_ns;
                if !lacks_names {
                    self.tick(sink)?;
                    next_tick = next_tick.min(self.interval_due());
                }
            }
            let until = self.span.end_ns.map_or(next_tick, |end| end.min(next_tick));
            let ready = self.wait(stop, Duration::from_nanos(until.saturating_sub(now)))?;
            if !lacks_names {
                self.drain(sink, Some(until))?;
                self.hear_beside(sink)?;
            }
            if ready.stopped {
                return Ok("interrupted");
            }
            if ready.exited {
                return Ok("the process ended");
            }
        }
    }

    fn wait(&self, stop: &Stop, timeout: Duration) -> io::Result<Ready> {
        let lacks_names = self.naming.is_busy();
        let news = if lacks_names {
            self.naming.ready()
        } else {
            self.records.ready()
        };
        let mut fds = vec![
            PollFd::new(news, PollFlags::POLLIN),
            PollFd::new(stop.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.exit.as_fd(), PollFlags::POLLIN),
        ];
        let beside = self.source.beside().filter(|_| !lacks_names);
        fds.extend(beside.map(|ready| PollFd::new(ready, PollFlags::POLLIN)));
        let timeout = if lacks_names || self.records.len() == 0 {
            timeout
        } else {
            Duration::ZERO
        };
        // Rounded up, so as not to spin through the last millisecond.
        let timeout =
            PollTimeout::try_from(timeout + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let set = |fd: &PollFd<'_>| fd.revents().is_some_and(|r| !r.is_empty());
        Ok(Ready {
            stopped: set(&fds[1]),
            exited: set(&fds[2]),
        })
    }

    fn tick(&mut self, sink: &mut dyn Sink) -> io::Result<()> {
        self.follow_dial(sink)?;
        self.keep_budget(sink)?;
        if self.is_paused() {
            return self.tick_paused(self.span.now(), sink);
        }
        let all_seen = self.records.len() == 0;
        self.begin_look()?;
        let threads = self.kernel.threads().map_err(io::Error::other)?;
        let now = self.span.now();
        self.workers.see(&threads, self.span.start_ns);
        let is_told =
            now >= self.interval_due() || (sink.live_every().is_some() && self.live.is_at(now));
        self.see_health(&threads, now, is_told)?;
        self.settle_all(&threads, now, false, sink)?;
        self.report_open(&threads, now, sink)?;
        if let Some(stacks) = &mut self.stacks {
            let open: HashSet<PollKey> = threads
                .iter()
                .flat_map(|(_, t)| {
                    let polls = open_polls(t).iter().map(|poll| poll.start_ns);
                    polls.chain([t.gap_ns]).map(|start_ns| (t.tid, start_ns))
                })
                .collect();
            stacks.tick(now, all_seen, |key| open.contains(&key));
        }
        self.check_itself(all_seen, sink)?;
        self.look_at_stuck(&threads, now, sink)?;
        self.look_for_findings(&threads, now, sink)?;
        self.tell_stuck_tasks(now, sink)?;
        self.take_snapshot(&threads, now, sink)?;
        self.tell_interval(now, sink)?;
        self.fit_threshold(now, sink)?;
        self.tell_snapshot(&threads, now, sink)?;
        self.look_beside(now, sink)?;
        self.look_for_code(sink)
    }
}

#[derive(Clone, Copy, Debug)]
struct Ready {
    stopped: bool,
    exited: bool,
}

fn write(sink: &mut dyn Sink, event: &Event) -> io::Result<()> {
    match sink.event(event) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}
