//! Tasks that live on, on several runtimes, and what the program itself knows of them: ids, types
//! and states.
//!
//! `crowd`: some of each kind, in each state, on a multi_thread and a current_thread runtime, a
//! `LocalSet`, and the blocking pool. `many`: 100,000 idle tasks on a multi_thread runtime.
//! `churn`: idle tasks, and others that come and go as fast as they can; each line on the standard
//! input is answered with the number of live tasks. `paced`: at each line 500 tasks that stay and
//! 300 that end at once, on a multi_thread and then on a current_thread runtime; the answer is the
//! number of live tasks and of all so far. `pool`: closures on the blocking pools. `leaks`: tasks
//! that become more, and others that do not. `shutdown`: runtimes that end while a closure runs.

mod counted;
mod growing;
mod pools;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use targets::control::{self, Options};
use targets::truth::TaskId;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;
use tokio::task::LocalSet;

static STOP: AtomicBool = AtomicBool::new(false);

fn say(handle: &impl std::fmt::Debug, name: &str, kind: &str, state: &str, loop_of: &str) {
    say_await(handle, name, kind, state, loop_of, "null");
}

fn say_await(
    handle: &impl std::fmt::Debug,
    name: &str,
    kind: &str,
    state: &str,
    loop_of: &str,
    number: &str,
) {
    let id = TaskId::default();
    id.learn(handle);
    control::say(&format!(
        r#"{{"type":"task","task_id":{},"name":"{name}","kind":"{kind}","state":"{state}","loop":"{loop_of}","await":{number},"lines":{:?}}}"#,
        id.get(),
        lines(name, number)
    ));
}

/// Where a task awaits, and where those that it awaits do.
fn lines(name: &str, number: &str) -> Vec<usize> {
    let labels = match (name, number) {
        ("waits_for_ever", "1") => vec!["for_ever"],
        ("waits_at", "2") => vec!["await_2"],
        ("waits_at", "3") => vec!["await_3"],
        ("waits_at", "5") => vec!["await_5", "for_ever"],
        _ => Vec::new(),
    };
    let marked = |label: &&str| targets::source::line_of(include_str!("main.rs"), label);
    labels.iter().filter_map(marked).collect()
}

/// Waits for ever at one of its awaits, which are numbered from 1; another one is passed before.
async fn waits_at(number: u64) -> u64 {
    tokio::task::yield_now().await;
    if number == 2 {
        // @await_2
        std::future::pending::<()>().await;
    }
    if number == 3 {
        // @await_3
        tokio::time::sleep(Duration::from_secs(3600)).await;
    }
    let seed = ends(number).await;
    // @await_5
    waits_for_ever(seed).await
}

async fn waits_for_ever(seed: u64) -> u64 {
    // @for_ever
    std::future::pending::<()>().await;
    seed
}

async fn sleeps(hours: u64) -> u64 {
    tokio::time::sleep(Duration::from_secs(hours * 3600)).await;
    hours
}

async fn is_notified(notify: std::sync::Arc<Notify>) -> u64 {
    notify.notified().await;
    1
}

async fn computes() -> u64 {
    let mut turns = 0_u64;
    while !STOP.load(Ordering::Relaxed) {
        turns = std::hint::black_box(turns + 1);
    }
    turns
}

async fn ends(seed: u64) -> u64 {
    tokio::task::yield_now().await;
    std::hint::black_box(seed)
}

/// Leaves what a spawn leaves on its thread's stack: a copy of the task as it was at first, in which
/// something else lies by now where the list's number was.
fn leave_copy(handle: &tokio::task::JoinHandle<u64>) {
    const FIRST_STATE: u64 = 0xcc;
    const WORDS: usize = 8;
    // SAFETY: a handle is a pointer to its task, which lives for as long and is larger than that.
    let mut copy = unsafe { *std::ptr::from_ref(handle).cast::<&[u64; WORDS]>() }.to_owned();
    copy[0] = FIRST_STATE;
    copy[3] = leave_copy as *const () as u64;
    std::mem::forget(std::hint::black_box(Box::new(copy)));
}

fn blocks() -> u64 {
    while !STOP.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(5));
    }
    7
}

/// One worker, which one task keeps busy: tasks that are woken meanwhile stay scheduled.
fn multi_thread() -> Runtime {
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(1)
        .enable_time()
        .build()
        .expect("a runtime");
    let notify = std::sync::Arc::new(Notify::new());
    let idle = |task: tokio::task::JoinHandle<u64>, name: &str, number: u64| {
        say_await(
            &task,
            name,
            "async",
            "idle",
            "multi_thread",
            &number.to_string(),
        );
    };
    for seed in 0..40 {
        let task = runtime.spawn(waits_for_ever(seed));
        leave_copy(&task);
        idle(task, "waits_for_ever", 1);
    }
    for number in 2..6 {
        // The fourth await is passed at once when it is come to again.
        if number != 4 {
            idle(runtime.spawn(waits_at(number)), "waits_at", number);
        }
    }
    for hours in 1..21 {
        idle(runtime.spawn(sleeps(hours)), "sleeps", 1);
    }
    let held: Vec<_> = (0..10).map(|seed| runtime.spawn(ends(seed))).collect();
    for _ in 0..5 {
        let task = runtime.spawn(is_notified(notify.clone()));
        say(&task, "is_notified", "async", "scheduled", "multi_thread");
    }
    // What has ended is no longer alive, though its handle is kept.
    runtime.block_on(async {
        while held.iter().any(|handle| !handle.is_finished()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    std::mem::forget(held);
    std::thread::sleep(Duration::from_millis(100));
    say(
        &runtime.spawn(computes()),
        "computes",
        "async",
        "running",
        "multi_thread",
    );
    // The pool has one thread for closures.
    say(
        &runtime.spawn_blocking(blocks),
        "blocks",
        "blocking",
        "running",
        "pool",
    );
    std::thread::sleep(Duration::from_millis(100));
    for _ in 0..3 {
        say(
            &runtime.spawn_blocking(blocks),
            "blocks",
            "blocking",
            "queued",
            "pool",
        );
    }
    notify.notify_waiters();
    runtime
}

fn local_set(runtime: &Runtime) -> LocalSet {
    let set = LocalSet::new();
    for seed in 0..7 {
        say(
            &set.spawn_local(waits_for_ever(seed)),
            "waits_for_ever",
            "async",
            "idle",
            "local",
        );
    }
    for seed in 0..8 {
        say(
            &runtime.spawn(waits_for_ever(seed)),
            "waits_for_ever",
            "async",
            "idle",
            "current_thread",
        );
    }
    let alone = Builder::new_current_thread().build().expect("a runtime");
    say(
        &alone.spawn(waits_for_ever(0)),
        "waits_for_ever",
        "async",
        "idle",
        "current_thread",
    );
    alone.block_on(tokio::task::yield_now());
    std::mem::forget(alone);
    set
}

fn crowd() {
    let multi = multi_thread();
    let current = Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let set = local_set(&current);
    set.block_on(&current, async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        control::ready();
        control::go().await;
    });
    STOP.store(true, Ordering::Relaxed);
    multi.shutdown_background();
}

fn main() {
    let options = Options::parse(&[
        "crowd", "many", "churn", "paced", "pool", "leaks", "shutdown",
    ]);
    match options.scenario.as_str() {
        "paced" => counted::paced(),
        "pool" => pools::pool(),
        "leaks" => growing::leaks(),
        "shutdown" => pools::shutdown(),
        "churn" => counted::churn(20_000),
        "many" => {
            control::listen();
            counted::many(100_000);
        }
        _ => {
            control::listen();
            crowd();
        }
    }
}
