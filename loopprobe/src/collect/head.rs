//! The head of a session: what is observed, and what cannot be seen.

use super::{
    Options,
    images::{FoundRuntime, Images},
};
use crate::{
    attach::Plan,
    clock::{nanoseconds, now_ns, unix_ns},
    model::{Mode, Session},
    process,
    runtime::Probed,
};

/// The head of a session that began at `start_ns`.
pub(super) fn head(options: &Options, plan: &Plan, images: &Images, start_ns: u64) -> Session {
    // Schema 1 has a field of its own for Tokio's versions.
    let (tokio, others): (Vec<_>, Vec<_>) = images
        .found
        .iter()
        .partition(|found| found.runtime.name() == "Tokio");
    let described = |found: &FoundRuntime| {
        format!("{} {}", found.runtime.name(), found.versions.join(" and "))
            .trim_end()
            .to_owned()
    };
    Session {
        schema: Session::SCHEMA,
        version: env!("CARGO_PKG_VERSION").into(),
        pid: options.pid,
        name: process_name(options.pid),
        placement: process::placement(options.pid),
        start_ns,
        start_unix_ns: unix_ns().saturating_sub(now_ns().saturating_sub(start_ns)),
        threshold_ns: nanoseconds(options.threshold),
        mode: Some(options.mode),
        sites: if options.is_watch() {
            0
        } else {
            plan.sites.len()
        },
        task_types: plan.types.len(),
        tokio: tokio
            .iter()
            .flat_map(|found| found.versions.clone())
            .collect(),
        runtimes: others.into_iter().map(described).collect(),
        limits: limits(options, plan, images),
    }
}

/// The process's name, `?` if it is gone.
pub(super) fn process_name(pid: u32) -> String {
    process::name(pid).unwrap_or_else(|_| "?".into())
}

/// What a session does not see that watches.
const WATCHED: [&str; 2] = [
    "watched without probes: polls are not counted, short ones not seen, and how long a long one took is told between bounds",
    "a poll is told only if its thread was off its CPU in it for the threshold without a break; one that may have computed that \
     long, or waited several times, is counted as possible",
];

/// What one does not see that only probes at times.
const PROBED_AT_TIMES: [&str; 2] = [
    "a task type with a long poll, or one that may have been, is probed for 10 s, and then not for a minute or more: its polls are \
     timed exactly in that time",
    "all else is watched without probes: polls are not counted, and one is told only if its thread was off its CPU in it for the \
     threshold without a break, its duration between bounds; one that may have computed that long, or waited several times, is counted \
     as possible",
];

fn limits(options: &Options, plan: &Plan, images: &Images) -> Vec<String> {
    let mut limits = Vec::new();
    // What a program that is not executed yet will map is not known.
    let mapped = options.program.is_none();
    match options.mode {
        Mode::Watch => limits.extend(WATCHED.map(str::to_owned)),
        Mode::Auto => limits.extend(PROBED_AT_TIMES.map(str::to_owned)),
        Mode::Exact | Mode::Light => {}
    }
    for found in images.found.iter().filter(|_| !options.is_watch()) {
        let missing = not_covered(found, options, images);
        limits.extend(missing.into_iter().map(str::to_owned));
    }
    if !options.stacks && mapped {
        limits.push("without stacks, polls that were stuck before the attach are not found".into());
    }
    if options.is_light() {
        limits.push(
            "timed by entries alone: a poll ends where its thread begins the next one or parks"
                .into(),
        );
    }
    if plan.slow_sites > 0 && !options.is_watch() {
        let sites = match plan.slow_sites {
            1 => "1 poll site begins".to_owned(),
            many => format!("{many} poll sites begin"),
        };
        limits.push(format!(
            "{sites} with an instruction that the kernel single-steps: that costs more"
        ));
    }
    if options.lag && mapped {
        limits.extend(wakes(plan));
    }
    if mapped {
        limits.extend(out_of_reach(options));
    }
    let unreadable = images.unreadable.iter();
    limits.extend(unreadable.map(|problem| format!("not read: {problem}")));
    limits
}

/// What is to be said of the probes where tasks are scheduled.
fn wakes(plan: &Plan) -> Option<String> {
    let slow = plan.slow_schedule_points;
    if plan.schedule_points == 0 {
        return Some(
            "how long tasks wait from their wake to their poll is not known: where this program schedules them was not found (it is from Tokio 1.23 on, on x86-64)"
                .into(),
        );
    }
    (slow > 0).then(|| {
        format!(
            "{slow} of {} places where tasks are scheduled begin with an instruction that the kernel single-steps: wakes cost more",
            plan.schedule_points
        )
    })
}

fn not_covered(found: &FoundRuntime, options: &Options, images: &Images) -> Vec<&'static str> {
    found.runtime.not_covered(Probed {
        parks: found.has_parks,
        // What a program that is not executed yet will map is not known.
        epoll: images.epoll || options.program.is_some(),
    })
}

/// Whether the futures given to `block_on` are covered, as far as is known.
pub(super) fn covers_roots(options: &Options, images: &Images) -> bool {
    let found = images.found.iter();
    !images.found.is_empty()
        && found
            .map(|found| not_covered(found, options, images))
            .all(|missing| missing.is_empty())
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
