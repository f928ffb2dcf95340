//! Loops that are not well: `lag` and `lag_multi` block the thread that turns the driver, `blocked`
//! all workers at once, `half` two workers of four, `locked` two in each other's lock, `spinner`
//! has a task that wakes itself without end, `sleepers` is well.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use targets::control::{self, Options};
use targets::runtime::current_thread;
use targets::truth;
use targets::work::block_ms;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Barrier;

const SCENARIOS: [&str; 7] = [
    "lag",
    "lag_multi",
    "blocked",
    "half",
    "locked",
    "spinner",
    "sleepers",
];

fn main() {
    let options = Options::parse(&SCENARIOS);
    control::listen();
    control::ready_to_go(&options);
    let end = Instant::now() + Duration::from_millis(options.millis);
    match options.scenario.as_str() {
        "lag" => lag(&current_thread(), end),
        "lag_multi" => lag(&multi_thread(2), end),
        "blocked" => blocked(&multi_thread(2), 4, end),
        "half" => blocked(&multi_thread(4), 2, end),
        "locked" => locked(&multi_thread(2), end),
        "spinner" => spinner(&multi_thread(2), end),
        _ => sleepers(&multi_thread(2), end),
    }
    control::finish(&options);
}

fn multi_thread(workers: usize) -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
        .expect("a runtime")
}

async fn sleep_ms(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

/// Polled whenever its timer of 10 ms fires.
async fn drift(end: Instant) {
    while Instant::now() < end {
        sleep_ms(10).await;
    }
}

async fn blocker(end: Instant) {
    for ms in [30, 55, 40, 70].into_iter().cycle() {
        if Instant::now() >= end {
            return;
        }
        sleep_ms(190).await;
        block_ms(ms);
    }
}

fn lag(runtime: &Runtime, end: Instant) {
    runtime.block_on(async {
        let drift = truth::spawn("drift", drift(end));
        truth::spawn("blocker", blocker(end))
            .await
            .expect("no panic");
        drift.await.expect("no panic");
    });
}

/// So many tasks block at once, as far as there are workers for them: which worker takes which is
/// the runtime's choice.
fn blocked(runtime: &Runtime, tasks: usize, end: Instant) {
    async fn meet(barrier: Arc<Barrier>, rounds: u128) {
        for _ in 0..rounds {
            sleep_ms(1_500).await;
            barrier.wait().await;
            block_ms(150);
        }
        // The last one has been looked at before the runtime ends.
        sleep_ms(500).await;
    }
    let rounds = end.saturating_duration_since(Instant::now()).as_millis() / 1_600;
    let barrier = Arc::new(Barrier::new(tasks));
    runtime.block_on(async {
        let meet = |_| truth::spawn("meets", meet(barrier.clone(), rounds));
        let tasks: Vec<_> = (0..tasks).map(meet).collect();
        for task in tasks {
            task.await.expect("no panic");
        }
    });
}

/// Each task takes one lock and waits for the other's.
fn locked(runtime: &Runtime, end: Instant) {
    fn take(first: &Mutex<()>, second: &Mutex<()>, both: &std::sync::Barrier) {
        let _first = first.lock().expect("no panic");
        both.wait();
        let _second = second.lock().expect("no panic");
    }
    let locks = Arc::new((Mutex::new(()), Mutex::new(()), std::sync::Barrier::new(2)));
    let other = locks.clone();
    runtime.spawn(async move { take(&locks.0, &locks.1, &locks.2) });
    runtime.spawn(async move { take(&other.1, &other.0, &other.2) });
    while Instant::now() < end && !control::over() {
        std::thread::sleep(Duration::from_millis(10));
    }
    std::process::exit(0);
}

fn spinner(runtime: &Runtime, end: Instant) {
    async fn spin(end: Instant) -> u64 {
        let mut turns = 0;
        while Instant::now() < end {
            tokio::task::yield_now().await;
            turns += 1;
        }
        turns
    }
    let turns = runtime.block_on(async {
        for _ in 0..4 {
            tokio::spawn(drift(end));
        }
        let spinner = tokio::spawn(spin(end));
        control::say(&format!(r#"{{"type":"task","id":"{}"}}"#, spinner.id()));
        spinner.await.expect("no panic")
    });
    control::say(&format!(r#"{{"type":"turns","turns":{turns}}}"#));
}

fn sleepers(runtime: &Runtime, end: Instant) {
    runtime.block_on(async {
        let tasks: Vec<_> = (0..4)
            .map(|_| truth::spawn("sleeper", drift(end)))
            .collect();
        for task in tasks {
            task.await.expect("no panic");
        }
    });
}
