//! A session, from the attach to the summary.

use std::{
    collections::HashSet,
    io,
    os::fd::{AsFd as _, OwnedFd},
    time::{Duration, Instant},
};

use aya::maps::{MapData, RingBuf};
use loopprobe_common::{
    config::Config,
    counters::Counter,
    records::{Kind, ProcessRecord},
    thread::Thread,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{
    ObserveError, Options, Stop, ThresholdDial,
    head::{head, process_name},
    images::Images,
    live,
    polls::{PollKey, Polls, open_polls},
    record::Record,
    stacks::Stacks,
    stuck::Stuck,
    summary::{Totals, summarize},
};
use crate::{
    attach::{
        Capacity, DeadTime, Kernel, Messages, Plan, PlanSize, PlannedImage, Settings, measure,
    },
    clock::{nanoseconds, now_ns},
    model::{Event, Live, LongPoll, Notice, Session, Summary, TaskKind},
    report::Sink,
};

/// How often open polls and newly loaded libraries are looked for.
const TICK: Duration = Duration::from_millis(250);

/// A session that has been attached and not yet run.
pub struct Observer {
    options: Options,
    kernel: Kernel,
    events: RingBuf<MapData>,
    exit: OwnedFd,
    plan: Plan,
    images: Images,
    polls: Polls,
    /// As measured at the attach.
    dead_time: DeadTime,
    /// `None` if stacks are not wanted.
    stacks: Option<Stacks>,
    stuck: Option<Stuck>,
    /// Whether threads without a known poll are sampled.
    scans: bool,
    /// The programs' own messages, where they are wanted.
    messages: Option<Messages>,
    workers: HashSet<u32>,
    totals: Totals,
    start_ns: u64,
    /// Held as long as its probes.
    planned: Vec<PlannedImage>,
}

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Observer")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Observer {
    /// Finds the process's poll sites and places the probes.
    ///
    /// # Errors
    ///
    /// [`ObserveError`]; nothing is left behind.
    pub fn attach(options: &Options) -> Result<Self, ObserveError> {
        let pid = options.pid;
        let exit = exit_watch(pid)?;
        let mut images = Images::new(&options.debug_files);
        let mut plan = Plan::default();
        let planned = match &options.program {
            Some(program) => images.plan_program(program, &mut plan)?,
            None => images.plan_mapped(pid, &mut plan)?,
        };
        if plan.sites.is_empty() && options.program.is_none() {
            return Err(ObserveError::NoTokio {
                pid,
                files: images.len(),
                unreadable: images.unreadable,
            });
        }
        let cost = measure(None, lazy_headers(options))?;
        let mut kernel = Kernel::load(&Settings {
            pid,
            capacity: Capacity::for_plan(&plan, options.program.is_some()),
            config: config(options, options.stacks, cost.dead_time),
            log: options.kernel_log,
            all_processes: !cost.all_threads,
            method: None,
        })?;
        kernel.write_tables(&plan, PlanSize::default())?;
        let events = kernel.take_events()?;
        let messages = options.kernel_log.then(|| kernel.messages()).transpose()?;
        let mut stacks = if options.stacks {
            Some(Stacks::new(options)?)
        } else {
            None
        };
        kernel.attach_tracepoints()?;
        // Without stacks, samples still tell that a poll takes long.
        if options.sample_hz > 0 {
            kernel.attach_sampler(options.sample_hz)?;
        }
        for image in &planned {
            kernel.attach(image)?;
        }
        let start_ns = now_ns();
        let stuck = stacks
            .as_mut()
            .map(|stacks| Stuck::look(pid, start_ns, &planned, &kernel, stacks));
        Ok(Self {
            options: options.clone(),
            kernel,
            events,
            exit,
            plan,
            images,
            polls: Polls::new(pid, dead_time(options, cost.dead_time)),
            dead_time: cost.dead_time,
            stacks,
            stuck,
            scans: options.stacks,
            messages,
            workers: HashSet::new(),
            totals: Totals {
                ns_per_poll: Some(cost.ns_per_poll),
                ..Totals::default()
            },
            start_ns,
            planned,
        })
    }

    /// The session's head.
    pub fn session(&self) -> Session {
        head(&self.options, &self.plan, &self.images, self.start_ns)
    }

    /// Reports until the end.
    ///
    /// # Errors
    ///
    /// [`ObserveError::Output`] if the sink fails; [`ObserveError::Attach`] if the kernel side does.
    pub fn run(mut self, sink: &mut dyn Sink, stop: &Stop) -> Result<Summary, ObserveError> {
        let result = self.report(sink, stop);
        let quiet = result.is_err();
        let (reason, failed) = match result {
            Ok(reason) => (reason, None),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                ("the output was closed", None)
            }
            Err(error) => ("the output failed", Some(error)),
        };
        self.totals.reason = reason.into();
        let summary = self.finish(sink, quiet)?;
        // A sink may stand for many, and those that have not failed want the end.
        let ended = write(sink, &Event::Summary(summary.clone()));
        match failed.map_or(ended, Err) {
            Ok(()) => Ok(summary),
            Err(error) => Err(ObserveError::Output(error)),
        }
    }

    fn report(&mut self, sink: &mut dyn Sink, stop: &Stop) -> io::Result<&'static str> {
        sink.event(&Event::Session(self.session()))?;
        let end = self
            .options
            .duration
            .map(|duration| Instant::now() + duration);
        let mut next_tick = Instant::now() + TICK;
        loop {
            let now = Instant::now();
            if end.is_some_and(|end| now >= end) {
                return Ok("the duration is over");
            }
            if now >= next_tick {
                next_tick = now + TICK;
                self.tick(sink)?;
            }
            let until = end.map_or(next_tick, |end| end.min(next_tick));
            let ready = self.wait(stop, until.saturating_duration_since(now))?;
            self.drain(sink)?;
            if ready.stopped {
                return Ok("interrupted");
            }
            if ready.exited {
                return Ok("the process ended");
            }
        }
    }

    fn wait(&self, stop: &Stop, timeout: Duration) -> io::Result<Ready> {
        let mut fds = [
            PollFd::new(self.events.as_fd(), PollFlags::POLLIN),
            PollFd::new(stop.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.exit.as_fd(), PollFlags::POLLIN),
        ];
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

    /// Takes what the kernel side has sent.
    fn drain(&mut self, sink: &mut dyn Sink) -> io::Result<()> {
        if let Some(messages) = &mut self.messages {
            messages.flush();
        }
        let mut executed = None;
        while let Some(item) = self.events.next() {
            match Record::parse(&item) {
                Some(Record::Poll(record)) => {
                    let mut poll = self.polls.ended(&record, &self.plan);
                    if let Some(stacks) = &mut self.stacks {
                        let key = (record.tid, record.poll.start_ns);
                        stacks.explain(key, &mut poll, record.end_ns);
                    }
                    self.totals.groups.add(&poll);
                    self.workers.insert(record.tid);
                    if poll.task.kind == TaskKind::Root {
                        self.totals.unprobed_polls += 1;
                        self.totals.unprobed_ns += poll.duration_ns;
                    }
                    sink.event(&Event::LongPoll(poll))?;
                }
                Some(Record::Stack(record, bytes)) => match (&mut self.stacks, &mut self.stuck) {
                    (Some(stacks), Some(stuck)) if record.kind == Kind::Scan as u32 => {
                        stuck.sample(&record, bytes, record.start_ns, stacks);
                    }
                    (Some(stacks), _) => stacks.take(&record, bytes),
                    (None, _) => {}
                },
                Some(Record::Process(record)) => executed = Some(record),
                None => self.totals.lost.events += 1,
            }
        }
        match executed {
            Some(record) => self.executed(&record, sink),
            None => Ok(()),
        }
    }

    /// The process has executed another program.
    fn executed(&mut self, record: &ProcessRecord, sink: &mut dyn Sink) -> io::Result<()> {
        if let Some(stacks) = &mut self.stacks {
            stacks.reload();
        }
        self.refresh_boxes();
        let name = process_name(self.options.pid);
        notice(
            sink,
            record.time_ns,
            format!("process {} now runs {name}", self.options.pid),
        )?;
        if record.kind == Kind::ExecByThread as u32 {
            self.kernel.detach();
            let planned = std::mem::take(&mut self.planned);
            self.add(planned, sink)?;
        }
        self.look_for_images(sink)
    }

    fn tick(&mut self, sink: &mut dyn Sink) -> io::Result<()> {
        self.follow_dial()?;
        let threads = self.kernel.threads().map_err(io::Error::other)?;
        let now = now_ns();
        let threshold = nanoseconds(self.options.threshold);
        for (kernel_tid, thread) in &threads {
            self.workers.insert(thread.tid);
            for (key, mut poll) in self.polls.due(thread, now, threshold, &self.plan) {
                self.explain_open(key, &mut poll, *kernel_tid, thread, now);
                sink.event(&Event::LongPoll(poll))?;
            }
        }
        if let Some(stacks) = &mut self.stacks {
            let open: HashSet<(u32, u64)> = threads
                .iter()
                .flat_map(|(_, t)| open_polls(t).iter().map(|poll| (t.tid, poll.start_ns)))
                .collect();
            stacks.tick(now, |key| open.contains(&key));
        }
        self.look_at_stuck(&threads, now, threshold, sink)?;
        if sink.wants_live() {
            sink.live(self.live(&threads, now)?)?;
        }
        self.look_for_images(sink)
    }

    fn live(&mut self, threads: &[(u32, Thread)], now: u64) -> io::Result<Live> {
        let summary = summarize(&self.kernel, &self.plan.types, self.totals.clone())
            .map_err(io::Error::other)?;
        Ok(live::snapshot(
            threads,
            now,
            nanoseconds(self.options.threshold),
            &self.plan.types,
            &mut self.polls.threads,
            summary,
        ))
    }

    /// Takes over a threshold that was changed from outside.
    fn follow_dial(&mut self) -> io::Result<()> {
        let dial = self.options.threshold_dial.as_ref();
        let Some(threshold_ns) = dial.and_then(ThresholdDial::take) else {
            return Ok(());
        };
        self.options.threshold = Duration::from_nanos(threshold_ns);
        self.configure()
    }

    /// Reports polls that began before the attach.
    fn look_at_stuck(
        &mut self,
        threads: &[(u32, Thread)],
        now: u64,
        threshold: u64,
        sink: &mut dyn Sink,
    ) -> io::Result<()> {
        let (Some(stacks), Some(stuck)) = (&mut self.stacks, &mut self.stuck) else {
            return Ok(());
        };
        for poll in stuck.due(
            threads,
            now,
            threshold,
            &mut self.polls.threads,
            &self.kernel,
            stacks,
        ) {
            if poll.ended {
                self.totals.count_unprobed(&poll);
            }
            sink.event(&Event::LongPoll(poll))?;
        }
        let scan = stuck.wants_samples(now);
        if scan != self.scans {
            self.scans = scan;
            self.configure()?;
        }
        Ok(())
    }

    /// Tells the kernel side what is wanted now.
    fn configure(&mut self) -> io::Result<()> {
        let config = config(&self.options, self.scans, self.dead_time);
        self.polls.dead_time = dead_time(&self.options, self.dead_time);
        self.kernel.set_config(&config).map_err(io::Error::other)
    }

    fn refresh_boxes(&mut self) {
        if let Some(boxes) = &mut self.polls.boxes {
            boxes.refresh();
        }
    }

    /// Adds what is known so far to a poll that is still open.
    fn explain_open(
        &mut self,
        key: PollKey,
        poll: &mut LongPoll,
        kernel_tid: u32,
        thread: &Thread,
        now: u64,
    ) {
        let Some(stacks) = &mut self.stacks else {
            return;
        };
        let slot = (thread.off == Thread::OFF_BLOCKED)
            .then(|| self.kernel.slot(kernel_tid).ok())
            .flatten();
        // The slot may hold an older stack, or another thread's.
        let slot = slot.filter(|slot| {
            let record = &slot.record;
            record.tid == thread.tid && record.start_ns == thread.off_ns && record.poll_ns == key.1
        });
        let current = slot.as_ref().map(|slot| {
            let len = (slot.record.len as usize).min(slot.bytes.len());
            (&slot.record, &slot.bytes[..len])
        });
        stacks.explain_open(key, poll, current, now);
    }

    /// Probes libraries that have been loaded since.
    fn look_for_images(&mut self, sink: &mut dyn Sink) -> io::Result<()> {
        let before = self.plan.size();
        // The process may be gone; its end is noticed elsewhere.
        let Ok(planned) = self.images.plan_mapped(self.options.pid, &mut self.plan) else {
            return Ok(());
        };
        if self.plan.size() == before && planned.is_empty() {
            return Ok(());
        }
        self.refresh_boxes();
        let capacity = self.kernel.capacity();
        if self.plan.sites.len() > capacity.sites as usize
            || self.plan.types.len() > capacity.types as usize
        {
            let missed = self.plan.sites.len() - before.sites;
            // What is not probed must not be asked for at the end.
            self.plan.shrink(before);
            self.totals.lost.sites += missed as u64;
            return notice(
                sink,
                now_ns(),
                format!(
                    "{missed} poll sites of a library loaded later are not probed: attach again to see them"
                ),
            );
        }
        self.kernel
            .write_tables(&self.plan, before)
            .map_err(io::Error::other)?;
        self.add(planned, sink)
    }

    fn add(&mut self, planned: Vec<PlannedImage>, sink: &mut dyn Sink) -> io::Result<()> {
        for image in planned {
            if let Err(error) = self.kernel.attach(&image) {
                notice(sink, now_ns(), error.to_string())?;
            } else if let Some(tokio) = &image.tokio {
                let (path, sites) = (tokio.path.display(), tokio.sites.len());
                notice(
                    sink,
                    now_ns(),
                    format!("found Tokio in {path}: {sites} more poll sites are probed"),
                )?;
            }
            self.planned.push(image);
        }
        Ok(())
    }

    fn finish(&mut self, sink: &mut dyn Sink, quiet: bool) -> Result<Summary, ObserveError> {
        self.totals.duration_ns = now_ns() - self.start_ns;
        // While probes go, entries before returns, polls end whose beginning is not seen: that is no loss.
        self.totals.unmatched_ends = self.kernel.counter(Counter::UnmatchedEnd)?;
        self.kernel.detach();
        if !quiet {
            self.drain(sink).map_err(ObserveError::Output)?;
        }
        self.count_open()?;
        if let (Some(stacks), Some(stuck)) = (&mut self.stacks, &self.stuck) {
            for poll in stuck.still_open(now_ns(), &mut self.polls.threads, stacks) {
                self.totals.count_unprobed(&poll);
            }
        }
        self.totals.workers = self.workers.len() as u64;
        self.totals.dead_time = dead_time(&self.options, self.dead_time);
        if let Some(stacks) = &self.stacks {
            self.totals.lost.stacks += stacks.lost.stacks;
            self.totals.lost.incomplete_stacks += stacks.lost.incomplete_stacks;
            self.totals.lost.unresolved_frames += stacks.lost.unresolved_frames;
        }
        Ok(summarize(
            &self.kernel,
            &self.plan.types,
            self.totals.clone(),
        )?)
    }

    /// Counts the long polls that the session's end finds open; the kernel side counts at their end.
    fn count_open(&mut self) -> Result<(), ObserveError> {
        let now = now_ns();
        let threshold = nanoseconds(self.options.threshold);
        for (kernel_tid, thread) in self.kernel.threads()? {
            self.workers.insert(thread.tid);
            for (key, mut poll) in self.polls.open(&thread, now, threshold, &self.plan) {
                self.explain_open(key, &mut poll, kernel_tid, &thread, now);
                self.totals.count_unprobed(&poll);
            }
        }
        Ok(())
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

fn notice(sink: &mut dyn Sink, time_ns: u64, message: String) -> io::Result<()> {
    sink.event(&Event::Notice(Notice { time_ns, message }))
}

/// What is taken off the durations of the polls that are reported.
fn dead_time(options: &Options, measured: DeadTime) -> DeadTime {
    measured.of_polls_over(nanoseconds(options.threshold))
}

fn config(options: &Options, scan: bool, measured: DeadTime) -> Config {
    let threshold_ns = nanoseconds(options.threshold);
    Config {
        threshold_ns,
        dead_ns: dead_time(options, measured).total_ns(),
        min_block_ns: nanoseconds(options.min_block),
        sample_after_ns: threshold_ns / 10,
        stacks: u64::from(options.stacks),
        scan: u64::from(scan),
        lazy_headers: u64::from(lazy_headers(options)),
    }
}

/// Whether each poll over the threshold is sampled, or leaves its CPU.
fn lazy_headers(options: &Options) -> bool {
    // Twice the time between samples: they may be late by a little.
    let samples_a_threshold =
        nanoseconds(options.threshold).saturating_mul(u64::from(options.sample_hz)) / 1_000_000_000;
    samples_a_threshold >= 2
}

/// A descriptor that becomes readable when the process ends.
fn exit_watch(pid: u32) -> Result<OwnedFd, ObserveError> {
    crate::process::pidfd(pid).map_err(ObserveError::Process)
}
