//! Which scheduler the type `S` of `raw::poll<F, S>` stands for.

use std::collections::HashMap;

use super::TaskName;
use crate::{
    elf::VirtAddr,
    runtime::tokio::{Scheduler, vtable::RawVtable},
};

/// The scheduler that the type `S` of `raw::poll<F, S>` stands for.
///
/// Sources: `tokio/src/runtime/scheduler/{multi_thread,current_thread}`, `tokio/src/task/local.rs`,
/// `tokio/src/runtime/blocking/schedule.rs`; until 1.20 `runtime/{thread_pool,basic_scheduler}`.
pub(super) fn from_type(scheduler: &str) -> Option<Scheduler> {
    let is = |names: &[&str]| names.iter().any(|name| scheduler.contains(name));
    match () {
        () if is(&[
            "::multi_thread::",
            "::multi_thread_alt::",
            "::thread_pool::",
        ]) =>
        {
            Some(Scheduler::MultiThread)
        }
        () if is(&["::current_thread::", "::basic_scheduler::"]) => Some(Scheduler::CurrentThread),
        () if is(&["::task::local::Shared"]) => Some(Scheduler::Local),
        () if is(&["BlockingSchedule", "NoopSchedule"]) => Some(Scheduler::Blocking),
        () => None,
    }
}

/// Vtables with the same `raw::schedule<S>` have the same scheduler: what is known of one holds for
/// all, unless two of them disagree (then the functions were folded).
pub(super) fn share(vtables: &[RawVtable], names: &mut [Option<TaskName>]) {
    let mut known: HashMap<VirtAddr, Option<Scheduler>> = HashMap::new();
    for (vtable, name) in vtables.iter().zip(&*names) {
        let (Some(schedule), Some(scheduler)) =
            (vtable.schedule, name.as_ref().and_then(|n| n.scheduler))
        else {
            continue;
        };
        let entry = known.entry(schedule).or_insert(Some(scheduler));
        *entry = entry.filter(|other| *other == scheduler);
    }
    for (vtable, name) in vtables.iter().zip(names) {
        if let (Some(name), Some(schedule)) = (name.as_mut(), vtable.schedule) {
            name.scheduler = name
                .scheduler
                .or_else(|| known.get(&schedule).copied().flatten());
        }
    }
}
