//! The head of a session: what is observed, and what cannot be seen.

use super::{Options, images::Images};
use crate::{
    attach::Plan,
    clock::{nanoseconds, unix_ns},
    model::Session,
    process,
};

/// The head of a session that began at `start_ns`.
pub fn head(options: &Options, plan: &Plan, images: &Images, start_ns: u64) -> Session {
    Session {
        schema: Session::SCHEMA,
        version: env!("CARGO_PKG_VERSION").into(),
        pid: options.pid,
        name: process_name(options.pid),
        start_ns,
        start_unix_ns: unix_ns(),
        threshold_ns: nanoseconds(options.threshold),
        sites: plan.sites.len(),
        task_types: plan.types.len(),
        tokio: images.tokio.clone(),
        limits: limits(options, plan, images),
    }
}

/// The process's name, `?` if it is gone.
pub fn process_name(pid: u32) -> String {
    process::name(pid).unwrap_or_else(|_| "?".into())
}

fn limits(options: &Options, plan: &Plan, images: &Images) -> Vec<String> {
    let mut limits = Vec::new();
    // What a program that is not executed yet will map is not known.
    let mapped = options.program.is_none();
    if !images.block_on_symbols && !plan.sites.is_empty() {
        limits.push(
            "the root future of a multi_thread runtime is not covered: that needs symbols".into(),
        );
    }
    if !images.epoll && mapped {
        limits.push("turns of a current_thread loop without tasks cannot be told apart: epoll_wait was not found".into());
    }
    if !options.stacks && mapped {
        limits.push("without stacks, polls that were stuck before the attach are not found".into());
    }
    if options.light {
        limits.push(
            "timed by entries alone: a poll ends where its thread begins the next one or parks"
                .into(),
        );
    }
    if plan.slow_sites > 0 {
        let sites = match plan.slow_sites {
            1 => "1 poll site begins".to_owned(),
            many => format!("{many} poll sites begin"),
        };
        limits.push(format!(
            "{sites} with an instruction that the kernel single-steps: that costs more"
        ));
    }
    if mapped {
        limits.extend(out_of_reach(options));
    }
    let unreadable = images.unreadable.iter();
    limits.extend(unreadable.map(|problem| format!("not read: {problem}")));
    limits
}

/// What is behind pointers and descriptors of the process, where this process may not follow them.
fn out_of_reach(options: &Options) -> Vec<String> {
    let mut limits = Vec::new();
    if !process::can_read_memory(options.pid) {
        limits.push(
            "boxed futures, paths and the holders of locks are not named: reading the memory of this process takes \
             CAP_SYS_PTRACE"
                .into(),
        );
    }
    if options.stacks && !process::can_read_descriptors(options.pid) {
        limits.push(
            "the files and peers of most system calls are not named: reading the descriptors of this process takes \
             CAP_DAC_READ_SEARCH"
                .into(),
        );
    }
    limits
}
