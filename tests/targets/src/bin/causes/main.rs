//! One task for each cause of a long poll.
//!
//! Each task is an async fn that awaits a child, which calls a plain function, which blocks: the
//! child and the function are what a tool should name. The program says so itself, one line for
//! each cause, before it is ready.

mod cpu;
mod files;
mod locks;
mod network;
mod outputs;
mod outside;
mod process;
mod threads;
mod waits;

use std::future::Future;

use targets::control::{self, Options};
use targets::runtime::multi_thread;
use targets::source::line_of;

/// How long each call is meant to take at least, in milliseconds.
pub const LONG_MS: u64 = 25;

/// A cause, and who is to blame for it.
struct Case {
    /// As in the JSON contract.
    cause: &'static str,
    /// Tells apart two cases of one cause.
    label: &'static str,
    /// The module of the functions, and its source.
    module: &'static str,
    source: &'static str,
}

macro_rules! case {
    ($cause:literal, $label:literal, $module:literal) => {
        Case {
            cause: $cause,
            label: $label,
            module: $module,
            source: include_str!(concat!($module, ".rs")),
        }
    };
}

const CASES: [Case; 35] = [
    case!("sleep", "sleep", "process"),
    case!("sleep", "tail", "process"),
    case!("cpu", "cpu", "cpu"),
    case!("file_io", "file_io", "files"),
    case!("fsync", "fsync", "files"),
    case!("page_fault", "page_fault", "files"),
    case!("page_fault", "fresh_memory", "files"),
    case!("file_io", "cached_read", "files"),
    case!("network", "network", "network"),
    case!("lock", "mutex", "locks"),
    case!("lock", "rwlock", "locks"),
    case!("lock", "lot", "locks"),
    case!("child", "child", "process"),
    case!("preempted", "preempted", "cpu"),
    case!("stopped", "stopped", "cpu"),
    case!("nested_block_on", "nested_block_on", "process"),
    case!("channel", "channel", "threads"),
    case!("thread_wait", "join", "threads"),
    case!("thread_wait", "condvar", "threads"),
    case!("spin", "spin", "threads"),
    case!("spin", "hint", "threads"),
    case!("thread_wait", "helped", "threads"),
    case!("pipe", "pipe", "outputs"),
    case!("pipe", "reused", "outputs"),
    case!("sleep", "nap", "process"),
    case!("closing", "closing", "outputs"),
    case!("drop", "drop", "outputs"),
    case!("thread_wait", "worker", "waits"),
    case!("channel", "client", "waits"),
    case!("lock", "file_lock", "waits"),
    case!("pipe", "named_pipe", "waits"),
    case!("unknown", "event", "waits"),
    case!("cpu", "entropy", "waits"),
    case!("dns", "dns", "network"),
    case!("throttled", "throttled", "cpu"),
];

/// Not part of `all`: these change the whole process, and need root.
const ALONE: [&str; 2] = ["dns", "throttled"];

impl Case {
    fn runs_in(&self, scenario: &str) -> bool {
        scenario == self.label || scenario == "all" && !ALONE.contains(&self.label)
    }

    fn describe(&self) -> String {
        let (label, module) = (self.label, self.module);
        let line = |kind: &str| {
            line_of(self.source, &format!("{label}_{kind}")).expect("every definition is marked")
        };
        format!(
            r#"{{"type":"case","cause":"{}","label":"{label}","task":"causes::{module}::{label}_task","task_line":{},"child":"causes::{module}::{label}_child","child_line":{},"function":"causes::{module}::{label}_call","function_line":{},"file":"src/bin/causes/{module}.rs"}}"#,
            self.cause,
            line("task"),
            line("child"),
            line("call"),
        )
    }
}

/// Runs one task after the other, so that no cause disturbs another.
async fn run(scenario: &str, rounds: u32) {
    let wanted = |label: &str| {
        CASES
            .iter()
            .any(|case| case.label == label && case.runs_in(scenario))
    };
    one(wanted("sleep"), process::sleep_task(rounds)).await;
    one(wanted("tail"), process::tail_task(rounds)).await;
    one(wanted("cpu"), cpu::cpu_task(rounds)).await;
    one(wanted("file_io"), files::file_io_task(rounds)).await;
    one(wanted("cached_read"), files::cached_read_task(rounds)).await;
    one(wanted("fresh_memory"), files::fresh_memory_task(rounds)).await;
    one(wanted("fsync"), files::fsync_task(rounds)).await;
    one(wanted("page_fault"), files::page_fault_task(rounds)).await;
    one(wanted("network"), network::network_task(rounds)).await;
    one(wanted("mutex"), locks::mutex_task(rounds)).await;
    one(wanted("rwlock"), locks::rwlock_task(rounds)).await;
    one(wanted("lot"), locks::lot_task(rounds)).await;
    one(wanted("child"), process::child_task(rounds)).await;
    one(wanted("stopped"), cpu::stopped_task(rounds)).await;
    one(wanted("preempted"), cpu::preempted_task(rounds)).await;
    one(
        wanted("nested_block_on"),
        process::nested_block_on_task(rounds),
    )
    .await;
    one(wanted("channel"), threads::channel_task(rounds)).await;
    one(wanted("join"), threads::join_task(rounds)).await;
    one(wanted("condvar"), threads::condvar_task(rounds)).await;
    one(wanted("spin"), threads::spin_task(rounds)).await;
    one(wanted("hint"), threads::hint_task(rounds)).await;
    one(wanted("helped"), threads::helped_task(rounds)).await;
    one(wanted("pipe"), outputs::pipe_task(rounds)).await;
    one(wanted("reused"), outputs::reused_task(rounds)).await;
    one(wanted("nap"), process::nap_task(rounds)).await;
    one(wanted("closing"), outputs::closing_task(rounds)).await;
    one(wanted("drop"), outputs::drop_task(rounds)).await;
    one(wanted("worker"), waits::worker_task(rounds)).await;
    one(wanted("client"), waits::client_task(rounds)).await;
    one(wanted("file_lock"), waits::file_lock_task(rounds)).await;
    one(wanted("named_pipe"), waits::named_pipe_task(rounds)).await;
    one(wanted("event"), waits::event_task(rounds)).await;
    one(wanted("entropy"), waits::entropy_task(rounds)).await;
    one(wanted("dns"), network::dns_task(rounds)).await;
    one(wanted("throttled"), cpu::throttled_task(rounds)).await;
}

async fn one(wanted: bool, task: impl Future<Output = ()> + Send + 'static) {
    if wanted {
        tokio::spawn(task).await.expect("no panic");
    }
}

/// The pause between two rounds; its end begins a new poll.
pub async fn pause() {
    tokio::time::sleep(std::time::Duration::from_millis(3)).await;
}

fn main() {
    let labels: Vec<_> = std::iter::once("all")
        .chain(CASES.iter().map(|case| case.label))
        .collect();
    let options = Options::parse(&labels);
    let _outside = match options.scenario.as_str() {
        "dns" => Some(outside::Outside::name_server()),
        "throttled" => Some(outside::Outside::quota()),
        _ => None,
    };
    control::listen();
    for case in CASES.iter().filter(|case| case.runs_in(&options.scenario)) {
        control::say(&case.describe());
    }
    let runtime = multi_thread(2);
    control::ready_to_go(&options);
    runtime.block_on(run(&options.scenario, options.rounds));
    control::finish(&options);
}
