//! Polls that are watched instead of probed.

use std::io;

use loopprobe_common::{
    thread::Thread,
    watch::{WatchRecord, is_root},
};

use super::{Observer, changes::notice};
use crate::{
    clock::{nanoseconds, now_ns},
    collect::{
        advice::advise,
        poll_key::PollKey,
        polls::root_type,
        source::watch::{Owner, Proven, Watching, hi_ns, proven, proven_so_far, words_of},
        stacks::bytes_of,
    },
    model::{CurrentPoll, Event, LongPoll, Sink, TaskKind, TaskType, Worker},
};

impl Observer {
    /// A poll is over, or several ones of the same task.
    pub(super) fn watched(&mut self, record: &WatchRecord, sink: &mut dyn Sink) -> io::Result<()> {
        let closer = self.source.closer_mut();
        if closer.is_some_and(|closer| closer.keeps_back(record, now_ns())) {
            return Ok(());
        }
        self.tell_watched(record, sink)
    }

    /// Tells of those of which no look has told, though it might have. `is_end`: or none ever will.
    pub(super) fn tell_kept_back(&mut self, is_end: bool, sink: &mut dyn Sink) -> io::Result<()> {
        let closer = self.source.closer_mut();
        let over = closer.map(|closer| closer.release(now_ns(), is_end));
        over.into_iter()
            .flatten()
            .try_for_each(|record| self.tell_watched(&record, sink))
    }

    fn tell_watched(&mut self, record: &WatchRecord, sink: &mut dyn Sink) -> io::Result<()> {
        let Some(watching) = self.source.watching_mut() else {
            return Ok(());
        };
        let key = (record.tid, record.first_ns);
        self.polls.forget(key);
        let told_ns = watching.told.remove(&key);
        let threshold_ns = nanoseconds(self.options.threshold);
        let is_task = watching.task(record.task_id).is_some_and(Owner::is_task);
        let proven = proven(record, is_task);
        let hi_ns = hi_ns(record.flags, record.lo_ns, record.hi_ns);
        // A poll from before the attach is told as such, if it is long.
        let is_older = record.flags & WatchRecord::OLDER != 0;
        let is_told = self
            .stuck
            .as_ref()
            .is_some_and(|stuck| is_older && stuck.tids().any(|tid| tid == record.tid));
        if proven.ns < threshold_ns || is_told {
            // Shorter ones are not sent, but the threshold may have been raised.
            let is_possible = record.hi_ns.saturating_sub(record.lo_ns) >= threshold_ns && !is_told;
            if is_possible {
                self.possible(record);
            }
            if let Some(stacks) = &mut self.stacks {
                stacks.forget(key);
            }
            return Ok(());
        }
        let mut poll = self
            .polls
            .watched(record.tid, record.task_id, &proven, hi_ns, true);
        let end_ns = proven.start_ns + proven.ns;
        let around = (record.lo_ns, record.hi_ns);
        let inside = (proven.start_ns, end_ns);
        if self.is_seen_closer(record.tid, record.task_id, around, inside) {
            if let Some(stacks) = &mut self.stacks {
                stacks.forget(key);
            }
            return Ok(());
        }
        let owner = self
            .stacks
            .as_mut()
            .and_then(|stacks| stacks.explain_watched(key, &mut poll, &proven, end_ns));
        // What has been told while it was open keeps its beginning.
        poll.start_ns = told_ns.unwrap_or(poll.start_ns);
        self.name_watched(&mut poll, (record.task_id, record.idle_id), owner);
        self.count_unnamed(&poll);
        self.totals.count_unprobed(&poll);
        self.suspect(record.task_id);
        if let Some(closer) = self.source.closer_mut() {
            closer.watched(&poll);
        }
        sink.event(&Event::LongPoll(poll))
    }

    /// A poll may have been long, or several ones together.
    fn possible(&mut self, record: &WatchRecord) {
        let around = (record.lo_ns, record.hi_ns);
        let inside = (record.first_ns, record.last_ns);
        if self.is_seen_closer(record.tid, record.task_id, around, inside) {
            return;
        }
        if let Some(watching) = self.source.watching_mut() {
            watching.possible += 1;
        }
        self.suspect(record.task_id);
    }

    /// Whether a poll of a task is timed exactly: it lies in the time `around`, which other polls
    /// may touch, and goes on for all of the time `inside`.
    fn is_seen_closer(
        &self,
        tid: u32,
        task_id: u64,
        around: (u64, u64),
        inside: (u64, u64),
    ) -> bool {
        let Some(watching) = self.source.watching() else {
            return false;
        };
        let Some(closer) = &watching.closer else {
            return false;
        };
        let owner = watching.task(task_id);
        closer.has_told(tid, inside.0, inside.1)
            || owner.is_some_and(|owner| closer.covers(&owner.task, around.0, around.1))
    }

    /// The same of the poll that a thread is in.
    fn is_open_seen_closer(&self, thread: &Thread, proven: &Proven) -> bool {
        let around = (thread.watch.lo_ns, self.span.now());
        let inside = (proven.start_ns, proven.start_ns + proven.ns);
        self.is_seen_closer(thread.tid, thread.polls[0].task_id, around, inside)
    }

    /// The polls of a task are to be looked at closer, if it is known what it is.
    fn suspect(&mut self, task_id: u64) {
        if let Some(watching) = self.source.watching_mut() {
            watching.suspect(task_id);
        }
    }

    /// Says whose poll it is. `ids`: the thread's number in the poll, and outside of any.
    fn name_watched(&mut self, poll: &mut LongPoll, ids: (u64, u64), owner: Option<Owner>) {
        if is_root(ids.0, ids.1) {
            poll.task = if ids.0 == 0 {
                root_type()
            } else {
                likely_root()
            };
            poll.task_id = None;
            return;
        }
        let watching = self.source.watching();
        let known = watching.and_then(|watching| watching.task(ids.0)).cloned();
        let owner = match (known, owner) {
            (Some(known), Some(owner)) => owner.better(Some(known)),
            (Some(owner), None) | (None, Some(owner)) => owner,
            (None, None) => return,
        };
        if owner.task.kind == TaskKind::Async {
            poll.task = owner.task;
            advise(poll, owner.runtime);
        } else {
            poll.task = likely_root();
            poll.task_id = None;
        }
    }

    fn count_unnamed(&mut self, poll: &LongPoll) {
        if let Some(watching) = self.source.watching_mut() {
            let is_unnamed = poll.task == TaskType::unseen();
            watching.unnamed += u64::from(is_unnamed && self.stacks.is_some());
        }
    }

    /// The watched polls that are open for certain for as long as the threshold.
    pub(super) fn watched_open(&self, threads: &[(u32, Thread)]) -> Vec<(u32, Thread, Proven)> {
        let Some(watching) = self.source.watching() else {
            return Vec::new();
        };
        let threshold_ns = nanoseconds(self.options.threshold);
        let open = threads.iter().filter(|(_, thread)| thread.depth > 0);
        open.map(|(kernel_tid, thread)| {
            let is_task = watching
                .task(thread.polls[0].task_id)
                .is_some_and(Owner::is_task);
            let proven = proven_so_far(thread, is_task, watching.looked_ns);
            (*kernel_tid, *thread, proven)
        })
        .filter(|(.., proven)| proven.ns >= threshold_ns)
        .collect()
    }

    /// Those that are due to be reported.
    pub(super) fn watched_due(&mut self, threads: &[(u32, Thread)]) -> Vec<LongPoll> {
        let threshold_ns = nanoseconds(self.options.threshold);
        let mut due = Vec::new();
        for (kernel_tid, thread, proven) in self.watched_open(threads) {
            let key = key(&thread);
            if self.is_open_seen_closer(&thread, &proven) {
                continue;
            }
            if self.polls.is_due(key, proven.ns, threshold_ns) {
                let poll = self.watched_so_far(kernel_tid, &thread, &proven);
                if let Some(watching) = self.source.watching_mut() {
                    watching.told.insert(key, poll.start_ns);
                    if let Some(closer) = &mut watching.closer {
                        closer.watched(&poll);
                    }
                }
                due.push(poll);
            }
        }
        due
    }

    fn watched_so_far(&mut self, kernel_tid: u32, thread: &Thread, proven: &Proven) -> LongPoll {
        let (open, key) = (&thread.polls[0], key(thread));
        let now_ns = self
            .source
            .watching()
            .map_or(0, |watching| watching.looked_ns);
        let hi_ns = hi_ns(thread.watch.flags, thread.watch.lo_ns, now_ns);
        let mut poll = self
            .polls
            .watched(thread.tid, open.task_id, proven, hi_ns, false);
        let slot = self.kernel.stack_of(kernel_tid, thread, key.1);
        let mut owner = None;
        if let Some(stacks) = &mut self.stacks {
            let polls = self.source.watching().and_then(Watching::polls);
            let current = slot.as_ref().zip(polls);
            let current = current.map(|(slot, polls)| (&slot.record, bytes_of(slot), polls));
            owner = stacks.explain_watched_open(key, &mut poll, proven, current, now_ns);
        }
        let watching = self.source.watching();
        if let Some(told_ns) = watching.and_then(|watching| watching.told.get(&key)) {
            poll.start_ns = *told_ns;
        }
        self.name_watched(&mut poll, (open.task_id, thread.watch.idle_id), owner);
        poll
    }

    /// The threads that are in a poll, as far as that is known.
    pub(super) fn watched_workers(&mut self, threads: &[(u32, Thread)]) -> Vec<Worker> {
        let open = threads.iter().filter(|(_, thread)| thread.depth > 0);
        let mut workers: Vec<Worker> = open
            .map(|(_, thread)| {
                let blocked = thread.off == Thread::OFF_BLOCKED;
                Worker {
                    tid: thread.tid,
                    thread: self.polls.threads.get(thread.tid).to_owned(),
                    // Its time outside of polls is not known, and so not what it does with it.
                    off_ns: 0,
                    blocked,
                    poll: Some(CurrentPoll {
                        task: self.watched_name(thread),
                        task_id: (!is_root_of(thread)).then_some(thread.polls[0].task_id),
                        // Before that it may have been another poll of the same task.
                        start_ns: blocked.then_some(thread.off_ns),
                    }),
                }
            })
            .collect();
        workers.sort_by_key(|worker| worker.tid);
        workers
    }

    fn watched_name(&self, thread: &Thread) -> String {
        if is_root_of(thread) {
            return root_type().name;
        }
        let watching = self.source.watching();
        let owner = watching.and_then(|watching| watching.task(thread.polls[0].task_id));
        let task = owner.filter(|owner| owner.task.kind == TaskKind::Async);
        task.map_or_else(|| "?".to_owned(), |owner| owner.task.name.clone())
    }

    /// Counts the long polls that the session's end finds open, and those that may be.
    pub(super) fn count_watched(&mut self, threads: &[(u32, Thread)]) {
        let threshold_ns = nanoseconds(self.options.threshold);
        let now_ns = self.span.now();
        let Some(watching) = self.source.watching_mut() else {
            return;
        };
        watching.looked_ns = now_ns;
        let closer = watching.closer.as_ref();
        let may_be_long = threads.iter().filter(|(_, thread)| {
            let (first_ns, last_ns) = (thread.polls[0].start_ns, thread.watch.last_ns);
            thread.depth > 0
                && now_ns.saturating_sub(thread.watch.lo_ns) >= threshold_ns
                && !closer.is_some_and(|closer| closer.has_told(thread.tid, first_ns, last_ns))
        });
        watching.possible += may_be_long.count() as u64;
        let mut certain = self.watched_open(threads);
        if let Some(watching) = self.source.watching_mut() {
            // A state that was read while it changed may be in only one of the two.
            watching.possible = watching.possible.saturating_sub(certain.len() as u64);
        }
        certain.retain(|(_, thread, proven)| !self.is_open_seen_closer(thread, proven));
        for (kernel_tid, thread, proven) in certain {
            let poll = self.watched_so_far(kernel_tid, &thread, &proven);
            self.count_unnamed(&poll);
            self.totals.count_unprobed(&poll);
        }
        if let Some(watching) = self.source.watching() {
            self.totals.possible = Some(watching.possible);
            self.totals.lost.unnamed_polls = watching.unnamed;
        }
    }

    /// The process has executed another program.
    pub(super) fn watch_anew(&mut self, sink: &mut dyn Sink) -> io::Result<()> {
        if let Some(watching) = self.source.watching_mut() {
            watching.forget_tasks();
        }
        if let Some(closer) = self.source.closer_mut() {
            closer.forget();
        }
        self.look_for_watchable(sink)?;
        self.tell_poll_functions();
        self.tell_words(sink)
    }

    /// Watches libraries that have been loaded since.
    pub(super) fn look_for_watchable(&mut self, sink: &mut dyn Sink) -> io::Result<()> {
        let known = self.images.watchable.len();
        // The process may be gone; its end is noticed elsewhere.
        let Ok(planned) = self.images.plan_mapped(self.options.pid, &mut self.plan) else {
            return Ok(());
        };
        if planned.is_empty() && self.images.watchable.len() == known {
            return Ok(());
        }
        self.polls.instances.refresh();
        self.planned.extend(planned);
        self.tell_poll_functions();
        for image in &self.images.watchable[known..] {
            let said = image.unwatched();
            let said = said.unwrap_or_else(|| format!("now watched too: {}", image.path.display()));
            notice(sink, now_ns(), said)?;
        }
        self.tell_words(sink)
    }

    /// Says which functions poll tasks, in what is mapped now.
    fn tell_poll_functions(&mut self) {
        if let (Some(stacks), Some(watching)) = (&mut self.stacks, self.source.watching_mut()) {
            stacks.tell_runtimes(&self.planned);
            watching.tell_runtimes(self.options.pid, &self.planned, stacks);
        }
    }

    /// Tells the kernel side where the threads of what is mapped now keep what they poll.
    fn tell_words(&mut self, sink: &mut dyn Sink) -> io::Result<()> {
        let (words, all) = words_of(self.options.pid, &self.images.watchable, false);
        if all > words.len() {
            let missed = all - words.len();
            notice(
                sink,
                now_ns(),
                format!(
                    "{missed} more files with a runtime in them are not watched: there are too many"
                ),
            )?;
        }
        self.kernel.set_words(&words).map_err(io::Error::other)
    }
}

/// The root future of a thread that runs a closure of the blocking pool, which may block.
fn likely_root() -> TaskType {
    TaskType {
        certain: false,
        ..root_type()
    }
}

/// Whether the poll that a thread is in is no task's.
fn is_root_of(thread: &Thread) -> bool {
    is_root(thread.polls[0].task_id, thread.watch.idle_id)
}

/// Which poll a thread is in.
fn key(thread: &Thread) -> PollKey {
    (thread.tid, thread.polls[0].start_ns)
}
