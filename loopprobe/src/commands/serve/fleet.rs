//! The processes under observation, and those that are not.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::{
    super::{monitor::say_exports, say, survey::Survey},
    output::Target,
    select::{Candidate, Selection},
    session::{Common, Ended, Running},
};
use crate::{
    cli::{GlobalArgs, ServeKeys},
    export::metrics::Targets,
    process,
    report::clean,
    runtime::{Presence, presence},
};

/// When a process that could not be attached to is tried again.
const RETRY: Duration = Duration::from_secs(60);
/// When a process without Tokio is looked at again: it may load a library.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// All of them.
pub(super) struct Fleet {
    keys: ServeKeys,
    global: GlobalArgs,
    selection: Selection,
    common: Common,
    survey: Survey<Presence>,
    running: HashMap<u32, Running>,
    /// Processes that are not under observation, until when that is settled.
    others: HashMap<u32, Other>,
}

#[derive(Clone, Debug)]
struct Other {
    identity: Identity,
    why: Why,
    until: Instant,
}

/// What tells a process from a later one of the same id, and from the program that it executed
/// before.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Identity {
    started: u64,
    program: std::path::PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    NotChosen,
    NoTokio,
    Unreadable,
    Failed,
    OverLimit,
}

impl Fleet {
    /// Of what was chosen.
    pub(super) fn new(keys: ServeKeys, global: GlobalArgs, common: Common) -> Self {
        Self {
            selection: Selection::new(&keys.select),
            keys,
            global,
            common,
            survey: Survey::new(presence),
            running: HashMap::new(),
            others: HashMap::new(),
        }
    }

    /// From now on by these options.
    pub(super) fn follow(&mut self, keys: ServeKeys) {
        self.selection = Selection::new(&keys.select);
        for running in self.running.values() {
            running.follow(&keys, &self.global);
        }
        self.keys = keys;
        self.others.clear();
        for (pid, running) in &self.running {
            let wanted = Candidate::read(*pid).is_none_or(|now| self.selection.wants(&now));
            if !wanted {
                running.stop();
            }
        }
    }

    /// Lets go of what is over and attaches to what is new.
    ///
    /// # Errors
    ///
    /// If `/proc` cannot be read.
    pub(super) fn look(&mut self) -> anyhow::Result<()> {
        self.reap();
        let pids = process::all()?;
        let own = std::process::id();
        self.others.retain(|pid, _| pids.binary_search(pid).is_ok());
        let now = Instant::now();
        // Those over the limit have their turn when there is room.
        let room = self.has_room();
        self.others
            .retain(|_, other| now < other.until && !(room && other.why == Why::OverLimit));
        for pid in pids {
            if pid != own && !self.running.contains_key(&pid) {
                self.consider(pid, now);
            }
        }
        if let Some(board) = &self.common.board {
            board.tell(self.targets());
        }
        Ok(())
    }

    fn has_room(&self) -> bool {
        self.running.len() < self.keys.select.max_targets as usize
    }

    fn consider(&mut self, pid: u32, now: Instant) {
        let Some(identity) = identity(pid) else {
            return;
        };
        if let Some(known) = self.others.get(&pid)
            && known.identity == identity
        {
            return;
        }
        let Some(candidate) = Candidate::read(pid) else {
            return;
        };
        let why = self.judge(pid, &candidate);
        let Some((why, settled)) = why else {
            self.attach(pid, identity, candidate);
            return;
        };
        self.settle(pid, identity, why, now + settled);
    }

    /// Why a process is not observed, and for how long that holds; `None` if it is to be.
    fn judge(&mut self, pid: u32, candidate: &Candidate) -> Option<(Why, Duration)> {
        if !self.selection.wants(candidate) {
            return Some((Why::NotChosen, LOOK_AGAIN));
        }
        match self.survey.process(pid) {
            Err(_) => Some((Why::Unreadable, RETRY)),
            Ok(found) if found.images.is_empty() && !found.unreadable.is_empty() => {
                Some((Why::Unreadable, RETRY))
            }
            Ok(found) if found.images.is_empty() => Some((Why::NoTokio, LOOK_AGAIN)),
            Ok(_) if !self.has_room() => {
                say::warning(&format!(
                    "{} (pid {pid}) is not observed: there are {} already (--max-targets)",
                    clean(&candidate.name),
                    self.running.len()
                ));
                Some((Why::OverLimit, RETRY))
            }
            Ok(_) => None,
        }
    }

    fn settle(&mut self, pid: u32, identity: Identity, why: Why, until: Instant) {
        let other = Other {
            identity,
            why,
            until,
        };
        self.others.insert(pid, other);
    }

    fn attach(&mut self, pid: u32, identity: Identity, candidate: Candidate) {
        let target = Target {
            pid,
            name: candidate.name,
            placement: candidate.placement,
        };
        let started = identity.started;
        match Running::start(target, started, &self.keys, &self.global, &self.common) {
            Ok(running) => {
                self.running.insert(pid, running);
            }
            Err(error) => {
                say::warning(&format!("pid {pid} is not observed: {error}"));
                self.settle(pid, identity, Why::Failed, Instant::now() + RETRY);
            }
        }
    }

    /// Takes leave of sessions that are over.
    pub(super) fn reap(&mut self) {
        let over: Vec<u32> = self
            .running
            .iter()
            .filter(|(_, running)| running.is_over())
            .map(|(pid, _)| *pid)
            .collect();
        for pid in over {
            if let Some(running) = self.running.remove(&pid) {
                self.bury(running);
            }
        }
        if let Some(board) = &self.common.board {
            board.tell(self.targets());
        }
    }

    fn bury(&mut self, running: Running) {
        let started = running.started;
        let Ended {
            target,
            outcome,
            counts,
            exports,
        } = running.end();
        let name = clean(&target.name).into_owned();
        if let Some(tally) = counts.map(|counts| counts.tally())
            && tally.is_incomplete()
        {
            let told = clean(&tally.to_string()).into_owned();
            say::warning(&format!("alerts of {name} (pid {}): {told}", target.pid));
        }
        say_exports(&exports, &format!(" of {name} (pid {})", target.pid), false);
        let Err(error) = outcome else {
            return;
        };
        // One that has ended meanwhile is no failure.
        let now = identity(target.pid).filter(|now| now.started == started);
        if let Some(identity) = now {
            let error = clean(&error).into_owned();
            say::warning(&format!(
                "{name} (pid {}) is not observed, and tried again in {} s: {error}",
                target.pid,
                RETRY.as_secs()
            ));
            self.settle(target.pid, identity, Why::Failed, Instant::now() + RETRY);
        }
    }

    /// Lets all go, and waits for their reports.
    pub(super) fn end(&mut self) {
        for running in self.running.values() {
            running.stop();
        }
        let all: Vec<Running> = self.running.drain().map(|(_, running)| running).collect();
        for running in all {
            self.bury(running);
        }
    }

    /// How many there are, by what became of them.
    pub(super) fn targets(&self) -> Targets {
        let count = |why: Why| {
            self.others
                .values()
                .filter(|other| other.why == why)
                .count() as u64
        };
        let running = self.running.values();
        let observed = running.filter(|running| running.is_attached()).count();
        Targets {
            observed: observed as u64,
            attaching: (self.running.len() - observed) as u64,
            failed: count(Why::Failed),
            over_limit: count(Why::OverLimit),
            unreadable: count(Why::Unreadable),
        }
    }
}

/// `None` if it is gone, a thread of the kernel, or may not be looked at.
fn identity(pid: u32) -> Option<Identity> {
    // Asked first: threads of the kernel, of which there are many, have none.
    let program = process::program(pid).ok()?;
    Some(Identity {
        started: process::started(pid)?,
        program,
    })
}
