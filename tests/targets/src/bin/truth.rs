//! Records each of its own polls and prints them.

use std::future::Future;
use std::time::{Duration, Instant};

use targets::control::{self, Gate, Options};
use targets::truth::{self, Kind, TaskId, Timed};
use targets::work::{block_ms, deep, spin_ms, wait_ms};
use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinSet, LocalSet};

/// Milliseconds, in turn: on both sides of the default threshold, close to it and far from it.
const STEPS: [u64; 10] = [1, 12, 4, 20, 8, 11, 2, 35, 9, 15];

const SCENARIOS: [&str; 21] = [
    "sleep",
    "cpu",
    "nested",
    "spawn_blocking",
    "block_in_place",
    "local_set",
    "join_set",
    "current_thread",
    "root",
    "root_multi",
    "root_waits",
    "root_hangs",
    "fleeting",
    "short",
    "runtimes",
    "threads",
    "neighbours",
    "hogs",
    "alternate",
    "alternate_multi",
    "deep",
];

fn main() {
    let options = Options::parse(&SCENARIOS);
    control::listen();
    if options.gate == Gate::Before {
        control::ready();
        control::wait_go();
    }
    let rounds = options.rounds;
    match options.scenario.as_str() {
        "sleep" => run(&multi(), &options, sleepers(rounds)),
        "cpu" => run(&multi(), &options, spinners(rounds)),
        "nested" => run(&multi(), &options, nested(rounds)),
        "spawn_blocking" => run(&multi(), &options, blocking_pool(rounds)),
        "block_in_place" => run(&multi(), &options, in_place(rounds)),
        "local_set" => run(&multi(), &options, local_tasks("local_set", rounds)),
        "join_set" => run(&multi(), &options, join_set(rounds)),
        "current_thread" => run(&current(), &options, sleepers(rounds)),
        "root" => run(&current(), &options, root(rounds, block_ms)),
        "root_multi" => run(&multi(), &options, root(rounds, block_ms)),
        "root_waits" => run(&multi(), &options, root(rounds, wait_ms)),
        "root_hangs" => run(&multi(), &options, hang()),
        "fleeting" => run(&multi(), &options, fleeting(rounds)),
        "short" => run(&multi(), &options, short(rounds)),
        "deep" => run(&multi(), &options, deep_tasks(rounds)),
        "runtimes" => runtimes(&options),
        "neighbours" => neighbours(&options),
        "hogs" => hogs(&options),
        "alternate" => alternate(&current_with_io(), &options),
        "alternate_multi" => alternate(&multi(), &options),
        _ => threads(&options),
    }
    control::finish(&options);
}

fn multi() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .on_thread_start(truth::mark)
        .on_thread_stop(truth::mark)
        .build()
        .expect("a runtime")
}

fn current() -> Runtime {
    Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime")
}

fn current_with_io() -> Runtime {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

/// Runs `work` as the root future, after `go` where that was asked for.
fn run(runtime: &Runtime, options: &Options, work: impl Future<Output = ()>) {
    let inside = options.gate == Gate::Inside;
    let started = options.gate == Gate::Before;
    runtime.block_on(Timed::new("root", Kind::Root, async move {
        // A worker that has polled something is known to be up.
        let _ = truth::spawn("warm_up", async {}).await;
        if !started {
            control::ready();
        }
        if inside {
            control::go().await;
        }
        work.await;
    }));
    truth::mark();
}

async fn pause() {
    tokio::time::sleep(Duration::from_millis(3)).await;
}

/// One poll for each step, `offset` apart so that tasks differ.
async fn steps(rounds: u32, offset: usize, work: fn(u64)) {
    for round in 0..rounds as usize {
        pause().await;
        work(STEPS[(round + offset) % STEPS.len()]);
    }
}

async fn sleepers(rounds: u32) {
    let tasks = ["sleep_a", "sleep_b", "sleep_c"];
    let handles: Vec<_> = (0..)
        .zip(tasks)
        .map(|(i, label)| truth::spawn(label, steps(rounds, i * 3, block_ms)))
        .collect();
    for handle in handles {
        handle.await.expect("no panic");
    }
}

async fn spinners(rounds: u32) {
    let a = truth::spawn("cpu_a", steps(rounds, 0, spin_ms));
    let b = truth::spawn("cpu_b", steps(rounds, 5, spin_ms));
    a.await.expect("no panic");
    b.await.expect("no panic");
}

/// Polls that wait and compute far down the stack, each length of time at another depth: between 40
/// and 236 KiB.
async fn deep_tasks(rounds: u32) {
    fn below(ms: u64, work: fn(u64)) {
        deep(40 + ms * 23 % 197, &|| work(ms));
    }
    let work: [(&str, fn(u64)); 3] = [
        ("deep_sleep", |ms| below(ms, block_ms)),
        ("deep_wait", |ms| below(ms, wait_ms)),
        ("deep_cpu", |ms| below(ms, spin_ms)),
    ];
    let handles: Vec<_> = (0..)
        .zip(work)
        .map(|(i, (label, work))| truth::spawn(label, steps(rounds, i * 3, work)))
        .collect();
    for handle in handles {
        handle.await.expect("no panic");
    }
}

/// A runtime inside a blocking-pool closure, and one inside `block_in_place` inside a task.
async fn nested(rounds: u32) {
    let pool = truth::spawn_blocking("nested_pool", move || {
        current().block_on(local_tasks("nested_local", rounds));
    });
    let place = truth::spawn("nested_outer", async move {
        for _ in 0..rounds.div_ceil(4) {
            pause().await;
            truth::block_in_place(|| current().block_on(local_tasks("nested_inner", 3)));
        }
    });
    pool.await.expect("no panic");
    place.await.expect("no panic");
}

async fn blocking_pool(rounds: u32) {
    let ticker = truth::spawn("ticker", steps(rounds, 0, |_| ()));
    for round in 0..rounds as usize {
        let ms = STEPS[round % STEPS.len()];
        truth::spawn_blocking("pool", move || block_ms(ms))
            .await
            .expect("no panic");
    }
    ticker.await.expect("no panic");
}

async fn in_place(rounds: u32) {
    let marked = truth::spawn(
        "in_place",
        steps(rounds, 0, |ms| truth::block_in_place(|| block_ms(ms))),
    );
    let plain = truth::spawn("not_in_place", steps(rounds, 5, block_ms));
    marked.await.expect("no panic");
    plain.await.expect("no panic");
}

async fn local_tasks(label: &'static str, rounds: u32) {
    let set = LocalSet::new();
    truth::spawn_local(&set, label, steps(rounds, 0, block_ms));
    truth::spawn_local(&set, label, steps(rounds, 4, spin_ms));
    set.await;
}

async fn join_set(rounds: u32) {
    let mut set = JoinSet::new();
    for i in 0..rounds as usize {
        let timed = Timed::new("join_set", Kind::Async, steps(3, i, block_ms));
        let id: TaskId = timed.id();
        id.learn(&set.spawn(timed));
    }
    while let Some(result) = set.join_next().await {
        result.expect("no panic");
    }
}

/// Tasks of one poll, each gone as soon as it has blocked.
async fn fleeting(rounds: u32) {
    for i in 0..rounds as usize {
        let task = truth::spawn("fleeting", steps(1, i, block_ms));
        task.await.expect("no panic");
    }
}

/// The root future parks first, and then waits for long.
async fn hang() {
    tokio::time::sleep(Duration::from_millis(300)).await;
    wait_ms(2_500);
}

/// The root future itself blocks, beside a task that only ticks.
async fn root(rounds: u32, work: fn(u64)) {
    let ticker = truth::spawn("ticker", steps(rounds, 0, |_| ()));
    steps(rounds, 1, work).await;
    ticker.await.expect("no panic");
}

/// Many short polls: none is near any threshold on purpose.
async fn short(rounds: u32) {
    let handles: Vec<_> = (0..8)
        .map(|_| {
            truth::spawn("short", async move {
                for _ in 0..rounds * 100 {
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for handle in handles {
        handle.await.expect("no panic");
    }
}

/// Three runtimes of two kinds at once.
fn runtimes(options: &Options) {
    let rounds = options.rounds;
    let inside = options.gate == Gate::Inside;
    let others: Vec<_> = [multi as fn() -> Runtime, current]
        .into_iter()
        .map(|build| {
            std::thread::spawn(move || {
                build().block_on(Timed::new("root", Kind::Root, async move {
                    if inside {
                        control::go().await;
                    }
                    sleepers(rounds).await;
                }));
            })
        })
        .collect();
    run(&multi(), options, sleepers(rounds));
    for other in others {
        other.join().expect("no panic");
    }
}

/// Two threads with a runtime each, at once, whose ids are the same modulo 2048: a table that is
/// looked up by the lower bits of the id has one place for both.
fn neighbours(options: &Options) {
    const PLACES: i32 = 2_048;
    fn place() -> i32 {
        // SAFETY: nothing is passed.
        unsafe { libc::gettid() % PLACES }
    }
    control::ready();
    control::wait_go();
    let rounds = options.rounds;
    let (sender, first_place) = std::sync::mpsc::channel();
    let work = move |label| {
        truth::mark();
        current().block_on(local_tasks(label, rounds));
        truth::mark();
    };
    let first = std::thread::spawn(move || {
        sender.send(place()).expect("somebody listens");
        work("first");
    });
    let wanted = first_place.recv().expect("a place");
    // Each thread gets the next free id, so this takes a little more than `PLACES` threads.
    let found = (0..PLACES * 8).any(|_| {
        let second = std::thread::spawn(move || {
            let meets = place() == wanted;
            if meets {
                work("second");
            }
            meets
        });
        second.join().expect("no panic")
    });
    assert!(found, "no id met the first one");
    first.join().expect("no panic");
}

/// Threads with a runtime each, which come and go.
fn threads(options: &Options) {
    let started = options.gate == Gate::Before;
    if !started {
        control::ready();
    }
    if options.gate == Gate::Inside {
        control::wait_go();
    }
    for _ in 0..options.rounds {
        std::thread::spawn(|| {
            truth::mark();
            current().block_on(local_tasks("short_lived", 3));
            truth::mark();
        })
        .join()
        .expect("no panic");
    }
}

/// Short polls on workers that other threads preempt all the time. Only those that took long are
/// recorded.
fn hogs(options: &Options) {
    control::ready();
    control::wait_go();
    let cpus = std::thread::available_parallelism().map_or(2, usize::from);
    for _ in 0..2 * cpus {
        std::thread::spawn(|| {
            while !control::over() {
                spin_ms(1)
            }
        });
    }
    let end = Instant::now() + Duration::from_millis(options.millis);
    multi().block_on(async {
        let tasks: Vec<_> = (0..2).map(|_| truth::spawn_brief("brief", end)).collect();
        for task in tasks {
            task.await.expect("no panic");
        }
    });
}

/// Calls of `block_on` with work between them.
fn alternate(runtime: &Runtime, options: &Options) {
    control::ready();
    control::wait_go();
    for round in 0..options.rounds as usize {
        targets::alternate::outside(round);
        targets::alternate::call(runtime, round);
    }
}
