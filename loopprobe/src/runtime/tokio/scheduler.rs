//! Which scheduler a task type is bound to, without symbols.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::vtable::RawVtable;
use crate::{
    code::{argument_point, locations_near},
    elf::{Image, VirtAddr},
    runtime::SchedulePoint,
};

/// Which of Tokio's schedulers a task type is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheduler {
    /// `Arc<multi_thread::Handle>`.
    MultiThread,
    /// `Arc<current_thread::Handle>`.
    CurrentThread,
    /// `Arc<task::local::Shared>`: a `LocalSet`.
    Local,
    /// `BlockingSchedule`: the blocking pool.
    Blocking,
    /// An async scheduler; which one could not be told.
    Unknown,
}

impl Scheduler {
    /// All words.
    pub(super) const WORDS: [&str; 5] = [
        Self::MultiThread.word(),
        Self::CurrentThread.word(),
        Self::Local.word(),
        Self::Blocking.word(),
        Self::Unknown.word(),
    ];

    /// In a word, as `inspect` prints it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::MultiThread => "multi_thread",
            Self::CurrentThread => "current_thread",
            Self::Local => "local",
            Self::Blocking => "blocking",
            Self::Unknown => "unknown",
        }
    }

    /// Whether it belongs to one thread.
    pub(super) fn is_local(self) -> bool {
        matches!(self, Self::CurrentThread | Self::Local)
    }
}

/// `raw::schedule<S>` reaches its scheduler's own code within two calls in all builds tried (Tokio
/// 1.28 to 1.54).
const MAX_CALLS: u32 = 3;

/// The scheduler behind each `raw::schedule<S>` of `vtables`, as the panic locations in its code
/// tell; functions that say nothing, or that speak of two, are left out.
pub(super) fn from_code(image: &Image, vtables: &[RawVtable]) -> HashMap<VirtAddr, Scheduler> {
    let functions: BTreeSet<_> = vtables
        .iter()
        .filter_map(|vtable| vtable.schedule)
        .collect();
    let told = functions.into_iter().filter_map(|schedule| {
        let locations = locations_near(image, schedule, MAX_CALLS);
        let files = locations
            .iter()
            .map(|(calls, location)| (*calls, location.file.as_str()));
        Some((schedule, from_files(files)?))
    });
    told.collect()
}

/// Source: `Handle::schedule` in `runtime/scheduler/{multi_thread/worker.rs,current_thread/mod.rs}`
/// (1.28 to 1.39: `current_thread.rs`), `BlockingSchedule::schedule` in
/// `runtime/blocking/schedule.rs`, `Shared::schedule` in `task/local.rs`, which alone asks for the
/// thread's id (`runtime/thread_id.rs`).
///
/// The nearest one counts: further off, the code of one scheduler may call another's.
fn from_files<'a>(files: impl Iterator<Item = (u32, &'a str)>) -> Option<Scheduler> {
    let schedulers: Vec<_> = files
        .filter_map(|(calls, file)| Some((calls, scheduler_of(file)?)))
        .collect();
    let nearest = schedulers.iter().map(|(calls, _)| *calls).min()?;
    let mut told = schedulers.iter().filter(|(calls, _)| *calls == nearest);
    let (_, first) = told.next()?;
    told.all(|(_, other)| other == first).then_some(*first)
}

fn scheduler_of(file: &str) -> Option<Scheduler> {
    let (_, file) = file.rsplit_once("/src/")?;
    match file {
        _ if file.starts_with("runtime/scheduler/multi_thread") => Some(Scheduler::MultiThread),
        _ if file.starts_with("runtime/scheduler/current_thread") => Some(Scheduler::CurrentThread),
        "runtime/blocking/schedule.rs" => Some(Scheduler::Blocking),
        "task/local.rs" | "runtime/thread_id.rs" => Some(Scheduler::Local),
        _ => None,
    }
}

/// Where tasks of these `raw::schedule<S>` functions are scheduled, whoever does it: a waker calls
/// that function, and it hands the task to the scheduler's own one, as spawning a task and a poll
/// that has woken itself do. The blocking pool's tasks are never scheduled so.
pub(super) fn schedule_points(
    image: &Image,
    functions: impl Iterator<Item = (VirtAddr, Scheduler)>,
) -> Vec<SchedulePoint> {
    let functions: BTreeMap<VirtAddr, Scheduler> = functions
        .filter(|(_, scheduler)| *scheduler != Scheduler::Blocking)
        .collect();
    let points = functions.into_iter().filter_map(|(function, scheduler)| {
        let at = argument_point(image, function)?;
        Some((at.address, image.file_offset(at.address)?, at, scheduler))
    });
    // Of several functions that come to one point, one will do.
    let points: BTreeMap<VirtAddr, SchedulePoint> = points
        .map(|(address, offset, at, scheduler)| {
            let scheduler = scheduler.word();
            (
                address,
                SchedulePoint {
                    offset,
                    at,
                    scheduler,
                },
            )
        })
        .collect();
    points.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKIO: &str = "/home/me/.cargo/registry/src/i-1f/tokio-1.54.1/src/";

    fn told(files: &[(u32, &str)]) -> Option<Scheduler> {
        let files: Vec<_> = files
            .iter()
            .map(|(calls, file)| (*calls, format!("{TOKIO}{file}")))
            .collect();
        from_files(files.iter().map(|(calls, file)| (*calls, file.as_str())))
    }

    #[test]
    fn a_schedulers_own_files_tell_it() {
        let shared = (0, "runtime/io/driver.rs");
        let multi = (2, "runtime/scheduler/multi_thread/worker.rs");
        let current = (1, "runtime/scheduler/current_thread.rs");
        let (blocking, local) = (
            (0, "runtime/blocking/schedule.rs"),
            (1, "runtime/thread_id.rs"),
        );
        assert_eq!(told(&[shared, multi]), Some(Scheduler::MultiThread));
        assert_eq!(told(&[shared, current]), Some(Scheduler::CurrentThread));
        assert_eq!(told(&[blocking]), Some(Scheduler::Blocking));
        assert_eq!(
            told(&[local, (1, "task/local.rs"), multi]),
            Some(Scheduler::Local)
        );
    }

    #[test]
    fn contradiction_and_silence_tell_nothing() {
        let multi = (1, "runtime/scheduler/multi_thread/worker.rs");
        assert_eq!(
            told(&[multi, (1, "runtime/scheduler/current_thread/mod.rs")]),
            None
        );
        assert_eq!(
            told(&[(0, "runtime/io/driver.rs"), (0, "runtime/park.rs")]),
            None
        );
    }
}
