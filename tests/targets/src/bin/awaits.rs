//! Loops whose awaits are all ready, and long computations that only look like them.

use std::future::Future;
use std::hint::black_box;
use std::pin::Pin;
use std::time::Duration;

use targets::clock::thread_cpu_ns;
use targets::control::{self, Options};
use targets::runtime::multi_thread;
use targets::truth;
use tokio::task::JoinHandle;

/// Turns of a loop in one poll; the tests know the number.
const TURNS: u64 = 1_000;
/// What a turn computes for, in nanoseconds.
const TURN_NS: u64 = 40_000;

/// Computes for about so many nanoseconds, without a system call.
#[inline(never)]
fn compute(ns: u64) -> u64 {
    let rounds = ns * *RATE.get_or_init(rate) / 1_000;
    (0..rounds).fold(1, |value, _| black_box(value * 31 % 1_000_003))
}

static RATE: std::sync::OnceLock<u64> = std::sync::OnceLock::new();

/// Rounds in a microsecond.
fn rate() -> u64 {
    const ROUNDS: u64 = 5_000_000;
    let from = thread_cpu_ns();
    black_box((0..ROUNDS).fold(1_u64, |value, _| black_box(value * 31 % 1_000_003)));
    (ROUNDS * 1_000 / (thread_cpu_ns() - from).max(1)).max(1)
}

async fn pause() {
    tokio::time::sleep(Duration::from_millis(3)).await;
}

/// What is awaited is an async function that is inlined, and never suspends.
async fn inlined(rounds: u32) {
    for _ in 0..rounds {
        pause().await;
        for number in 0..TURNS {
            step(number).await;
        }
    }
}

async fn step(number: u64) {
    black_box(compute(TURN_NS) + number);
}

type Boxed = Pin<Box<dyn Future<Output = u64> + Send>>;

/// What is awaited is polled by a call.
async fn called(rounds: u32, make: fn(u64) -> Boxed) {
    for _ in 0..rounds {
        pause().await;
        for number in 0..TURNS {
            black_box(make(number).await);
        }
    }
}

fn boxed(number: u64) -> Boxed {
    Box::pin(async move { compute(TURN_NS) + number })
}

/// One long computation: the loop has no await, although there are some around it.
async fn plain(rounds: u32) {
    for _ in 0..rounds {
        pause().await;
        for number in 0..TURNS {
            black_box(compute(TURN_NS) + number);
        }
        pause().await;
    }
}

/// The same, by a loop that writes flags and owns values, as state machines do.
async fn flags(rounds: u32) {
    let (mut dirty, mut names) = (false, Vec::new());
    for _ in 0..rounds {
        pause().await;
        for number in 0..TURNS {
            dirty = black_box(!dirty);
            let name = format!("{number}");
            black_box(compute(TURN_NS) + number);
            if number % 7 == 0 {
                names.push(name);
            } else {
                black_box(name);
            }
        }
        pause().await;
        black_box((dirty, &names));
        names.clear();
    }
}

/// Awaits that are ready, but few: each of them computes for long.
async fn few(rounds: u32) {
    for _ in 0..rounds {
        pause().await;
        for number in 0..4 {
            black_box(number + long(number).await);
        }
    }
}

async fn long(number: u64) -> u64 {
    (0..TURNS / 4).fold(number, |sum, _| sum ^ compute(TURN_NS))
}

/// One after the other, so that none disturbs another.
async fn run(rounds: u32) {
    end(truth::spawn("inlined", inlined(rounds))).await;
    end(truth::spawn("called", called(rounds, black_box(boxed)))).await;
    end(truth::spawn("plain", plain(rounds))).await;
    end(truth::spawn("flags", flags(rounds))).await;
    end(truth::spawn("few", few(rounds))).await;
}

async fn end(task: JoinHandle<()>) {
    task.await.expect("no panic");
}

fn main() {
    let options = Options::parse(&["awaits"]);
    black_box(compute(1));
    control::listen();
    let runtime = multi_thread(2);
    control::ready_to_go(&options);
    runtime.block_on(run(options.rounds));
    control::finish(&options);
}
