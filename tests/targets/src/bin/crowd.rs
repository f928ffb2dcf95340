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

use std::io::BufRead as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use targets::control::{self, Options};
use targets::truth::TaskId;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::Notify;
use tokio::task::LocalSet;

static STOP: AtomicBool = AtomicBool::new(false);
static ALIVE: AtomicU64 = AtomicU64::new(0);

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
    let marked = |label: &&str| targets::source::line_of(include_str!("crowd.rs"), label);
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

fn many(count: u64) {
    let runtime = targets::runtime::multi_thread(2);
    for seed in 0..count {
        drop(runtime.spawn(waits_for_ever(seed)));
    }
    std::thread::sleep(Duration::from_millis(500));
    control::ready();
    runtime.block_on(control::go());
    runtime.shutdown_background();
}

/// Tasks of two kinds that live for some polls.
async fn comes_and_goes(seed: u64) -> u64 {
    for _ in 0..seed % 5 {
        tokio::task::yield_now().await;
    }
    ALIVE.fetch_sub(1, Ordering::Relaxed);
    seed
}

async fn spawns(handle: Handle) -> u64 {
    let mut seed = 0;
    while !STOP.load(Ordering::Relaxed) {
        while ALIVE.load(Ordering::Relaxed) < 100 {
            seed += 1;
            ALIVE.fetch_add(1, Ordering::Relaxed);
            drop(handle.spawn(comes_and_goes(seed)));
        }
        tokio::task::yield_now().await;
    }
    seed
}

fn churn(idle: u64) {
    let runtime = targets::runtime::multi_thread(2);
    for seed in 0..idle {
        drop(runtime.spawn(waits_for_ever(seed)));
    }
    drop(runtime.spawn(spawns(runtime.handle().clone())));
    std::thread::sleep(Duration::from_millis(300));
    control::ready();
    for _ in std::io::stdin().lock().lines().map_while(Result::ok) {
        // The idle ones, the one that spawns, and those that come and go, which are a hundred at
        // most.
        let alive = idle + 1 + ALIVE.load(Ordering::Relaxed);
        control::say(&format!(r#"{{"type":"alive","tasks":{alive}}}"#));
    }
    STOP.store(true, Ordering::Relaxed);
    runtime.shutdown_background();
}

async fn yields() {
    loop {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Three workers; four threads for closures, of which two are kept busy and one waits, and at the
/// next line all four are and five closures wait; then a runtime on one thread with a closure of
/// its own.
fn pool() {
    let multi = Builder::new_multi_thread()
        .worker_threads(3)
        .max_blocking_threads(4)
        .enable_all()
        .build()
        .expect("a runtime");
    drop(multi.spawn(yields()));
    for _ in 0..2 {
        drop(multi.spawn_blocking(blocks));
    }
    let short = multi.spawn_blocking(|| std::thread::sleep(Duration::from_millis(50)));
    multi.block_on(short).expect("a closure");
    control::ready();
    let current = Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(7)
        .build()
        .expect("a runtime");
    let mut lines = std::io::stdin().lock().lines();
    lines.next();
    for _ in 0..7 {
        drop(multi.spawn_blocking(blocks));
    }
    lines.next();
    drop(current.spawn(yields()));
    drop(current.spawn_blocking(blocks));
    current.block_on(async {
        tokio::time::sleep(Duration::from_secs(5)).await;
    });
    STOP.store(true, Ordering::Relaxed);
    multi.shutdown_background();
    current.shutdown_background();
}

async fn passes() {
    tokio::time::sleep(Duration::from_millis(300)).await;
}

/// Tasks that never end come one by one, beside as many others that end, and many that came at the
/// beginning.
fn leaks() {
    let runtime = targets::runtime::multi_thread(2);
    for hours in 0..500 {
        drop(runtime.spawn(is_notified(std::sync::Arc::default())));
        drop(runtime.spawn(sleeps(hours)));
    }
    control::ready();
    for _ in 0..12_000 {
        drop(runtime.spawn(waits_at(3)));
        drop(runtime.spawn(passes()));
        std::thread::sleep(Duration::from_millis(5));
    }
    runtime.shutdown_background();
}

/// Two runtimes with a closure each: one is ended in the background, the other one is dropped two
/// seconds later, which takes three.
fn shutdown() {
    let runtimes = [(); 2].map(|()| targets::runtime::multi_thread(2));
    for runtime in &runtimes {
        drop(runtime.spawn(yields()));
    }
    let [background, waits] = runtimes;
    drop(background.spawn_blocking(blocks));
    static ENDS: AtomicBool = AtomicBool::new(false);
    drop(waits.spawn_blocking(|| {
        while !ENDS.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }));
    std::thread::sleep(Duration::from_millis(100));
    control::ready();
    std::io::stdin().lock().lines().next();
    background.shutdown_background();
    std::thread::sleep(Duration::from_secs(2));
    STOP.store(true, Ordering::Relaxed);
    std::thread::sleep(Duration::from_millis(100));
    control::say(r#"{"type":"drops"}"#);
    std::thread::spawn(|| {
        std::thread::sleep(Duration::from_secs(3));
        ENDS.store(true, Ordering::Relaxed);
    });
    drop(waits);
    control::say(r#"{"type":"down"}"#);
    std::io::stdin().lock().lines().next();
}

/// What a task leaves behind when it ends.
struct Ends;

impl Drop for Ends {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn ends_at_once(seed: u64) -> u64 {
    let _ends = Ends;
    tokio::task::yield_now().await;
    seed
}

fn paced() {
    let multi = targets::runtime::multi_thread(2);
    let current = Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let mut spawned = 0;
    let spawn = |handle: &Handle| {
        for seed in 0..500 {
            ALIVE.fetch_add(1, Ordering::SeqCst);
            drop(handle.spawn(waits_for_ever(seed)));
        }
        for seed in 0..300 {
            ALIVE.fetch_add(1, Ordering::SeqCst);
            drop(handle.spawn(ends_at_once(seed)));
        }
        800
    };
    spawned += spawn(multi.handle());
    control::ready();
    for (number, _) in std::io::stdin()
        .lock()
        .lines()
        .map_while(Result::ok)
        .enumerate()
    {
        let stay = 500 * (number as u64 + 2);
        if number % 2 == 0 {
            spawned += spawn(current.handle());
        } else {
            spawned += spawn(multi.handle());
        }
        let ended = async {
            while ALIVE.load(Ordering::SeqCst) > stay {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            // The last one still has to be taken off its list.
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        current.block_on(ended);
        control::say(&format!(
            r#"{{"type":"alive","tasks":{stay},"spawned":{spawned}}}"#
        ));
    }
    multi.shutdown_background();
}

fn main() {
    let options = Options::parse(&[
        "crowd", "many", "churn", "paced", "pool", "leaks", "shutdown",
    ]);
    match options.scenario.as_str() {
        "paced" => paced(),
        "pool" => pool(),
        "leaks" => leaks(),
        "shutdown" => shutdown(),
        "churn" => churn(20_000),
        "many" => {
            control::listen();
            many(100_000);
        }
        _ => {
            control::listen();
            crowd();
        }
    }
}
