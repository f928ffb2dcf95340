//! Which scheduler a task type is bound to, without symbols.

use std::collections::{BTreeSet, HashMap};

use super::{Scheduler, vtable::RawVtable};
use crate::{
    code::locations_near,
    elf::{Image, VirtAddr},
};

/// `raw::schedule<S>` reaches its scheduler's own code within two calls in all builds tried (Tokio 1.28 to 1.54).
const MAX_CALLS: u32 = 5;

/// The scheduler behind each `raw::schedule<S>` of `vtables`, as the panic locations in its code tell; functions that
/// say nothing, or that speak of two, are left out.
pub fn from_code(image: &Image, vtables: &[RawVtable]) -> HashMap<VirtAddr, Scheduler> {
    let functions: BTreeSet<_> = vtables
        .iter()
        .filter_map(|vtable| vtable.schedule)
        .collect();
    let told = functions.into_iter().filter_map(|schedule| {
        let locations = locations_near(image, schedule, MAX_CALLS);
        Some((
            schedule,
            from_files(locations.iter().map(|location| location.file.as_str()))?,
        ))
    });
    told.collect()
}

/// Source: `Handle::schedule` in `runtime/scheduler/{multi_thread/worker.rs,current_thread/mod.rs}` (1.28 to 1.39:
/// `current_thread.rs`), `BlockingSchedule::schedule` in `runtime/blocking/schedule.rs`, `Shared::schedule` in
/// `task/local.rs`, which alone asks for the thread's id (`runtime/thread_id.rs`).
fn from_files<'a>(files: impl Iterator<Item = &'a str>) -> Option<Scheduler> {
    let schedulers: Vec<_> = files.filter_map(scheduler_of).collect();
    let (first, others) = schedulers.split_first()?;
    others.iter().all(|other| other == first).then_some(*first)
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

#[cfg(test)]
mod tests {
    use super::*;

    const TOKIO: &str = "/home/me/.cargo/registry/src/i-1f/tokio-1.54.1/src/";

    fn told(files: &[&str]) -> Option<Scheduler> {
        let files: Vec<_> = files.iter().map(|file| format!("{TOKIO}{file}")).collect();
        from_files(files.iter().map(String::as_str))
    }

    #[test]
    fn a_schedulers_own_files_tell_it() {
        let shared = "runtime/io/driver.rs";
        assert_eq!(
            told(&[shared, "runtime/scheduler/multi_thread/worker.rs"]),
            Some(Scheduler::MultiThread)
        );
        assert_eq!(
            told(&[shared, "runtime/scheduler/current_thread.rs"]),
            Some(Scheduler::CurrentThread)
        );
        assert_eq!(
            told(&["runtime/blocking/schedule.rs"]),
            Some(Scheduler::Blocking)
        );
        assert_eq!(
            told(&["runtime/thread_id.rs", "task/local.rs"]),
            Some(Scheduler::Local)
        );
    }

    #[test]
    fn contradiction_and_silence_tell_nothing() {
        assert_eq!(
            told(&[
                "runtime/scheduler/multi_thread/worker.rs",
                "runtime/scheduler/current_thread/mod.rs"
            ]),
            None
        );
        assert_eq!(told(&["runtime/io/driver.rs", "runtime/park.rs"]), None);
    }
}
