//! Loops whose awaits are all ready, and long computations that only look like them.

use std::collections::HashMap;
use std::future::Future;
use std::hint::black_box;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use targets::clock::thread_cpu_ns;
use targets::control::{self, Options};
use targets::runtime::multi_thread;
use targets::truth;
use tokio::sync::mpsc::{unbounded_channel, UnboundedReceiver, UnboundedSender};
use tokio::sync::Mutex;
use tokio::task::{unconstrained, JoinHandle};

/// Turns of a loop in one poll; the tests know the number.
const TURNS: u64 = 1_000;
/// What a turn computes for, in nanoseconds.
const TURN_NS: u64 = 40_000;
/// Of turns that take less time than a breakpoint costs, so many more.
const SHORT: u64 = 20;

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

/// What is awaited is a library's; all is there.
async fn received(rounds: u32) {
    let (sender, mut receiver) = unbounded_channel();
    for _ in 0..rounds {
        pause().await;
        fill(&sender, TURNS * SHORT);
        while let Some(number) = unconstrained(receiver.recv()).await {
            black_box(compute(TURN_NS / SHORT) + number);
            if number == 0 {
                break;
            }
        }
    }
}

/// The same in a task that is unconstrained as a whole: the loop is jumped into where it polls.
async fn drained(rounds: u32) {
    let (sender, mut receiver) = unbounded_channel();
    for _ in 0..rounds {
        pause().await;
        fill(&sender, TURNS);
        while let Some(number) = receiver.recv().await {
            black_box(compute(TURN_NS) + number);
            if number == 0 {
                break;
            }
        }
    }
}

/// Sends numbers down to 0.
fn fill(sender: &UnboundedSender<u64>, count: u64) {
    for number in (0..count).rev() {
        sender.send(number).expect("a receiver");
    }
}

/// A lock that nobody else wants.
async fn locked(rounds: u32) {
    let sum = Mutex::new(0);
    for _ in 0..rounds {
        pause().await;
        for number in 0..TURNS {
            *unconstrained(sum.lock()).await += compute(TURN_NS) ^ number;
        }
    }
    black_box(sum.into_inner());
}

/// A cache that has whatever is asked for.
#[derive(Default)]
struct Cache(HashMap<u64, u64>);

impl Cache {
    async fn get(&mut self, key: u64) -> u64 {
        if let Some(value) = self.0.get(&key) {
            return *value;
        }
        pause().await;
        *self.0.entry(key).or_insert(key)
    }
}

async fn cached(rounds: u32) {
    let mut cache = Cache((0..16).map(|key| (key, key)).collect());
    for _ in 0..rounds {
        pause().await;
        for number in 0..TURNS {
            black_box(cache.get(number % 16).await ^ compute(TURN_NS));
        }
    }
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

/// Awaits that are ready, but few: between them a loop computes that has none.
async fn outer(rounds: u32) {
    let (sender, mut receiver) = unbounded_channel();
    for _ in 0..rounds {
        pause().await;
        fill(&sender, 4);
        for _ in 0..4 {
            let sent = unconstrained(receiver.recv()).await;
            for number in 0..TURNS / 4 {
                black_box(compute(TURN_NS) ^ number ^ sent.unwrap_or(0));
            }
        }
    }
}

/// A loop that would await if something were wrong.
async fn checked(rounds: u32, failures: &mut UnboundedReceiver<u64>) {
    for _ in 0..rounds {
        pause().await;
        for number in 0..TURNS {
            let sum = compute(TURN_NS) ^ number;
            if black_box(sum) == u64::MAX {
                black_box(failures.recv().await);
                pause().await;
            }
        }
    }
}

/// A loop that would suspend, for certain, if a call told it to.
async fn due(rounds: u32) {
    for _ in 0..rounds {
        pause().await;
        for number in 0..TURNS {
            if is_due(number) {
                Once(false).await;
            } else {
                black_box(compute(TURN_NS) ^ number);
            }
        }
    }
}

#[inline(never)]
fn is_due(number: u64) -> bool {
    black_box(number) == u64::MAX
}

/// Suspends the first time it is polled.
struct Once(bool);

impl Future for Once {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.0, true) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

/// One after the other, so that none disturbs another.
async fn run(rounds: u32) {
    end(truth::spawn("inlined", inlined(rounds))).await;
    end(truth::spawn("called", called(rounds, black_box(boxed)))).await;
    end(truth::spawn("received", received(rounds))).await;
    end(truth::spawn("drained", unconstrained(drained(rounds)))).await;
    end(truth::spawn("locked", locked(rounds))).await;
    end(truth::spawn("cached", cached(rounds))).await;
    end(truth::spawn("due", due(rounds))).await;
    end(truth::spawn("plain", plain(rounds))).await;
    end(truth::spawn("flags", flags(rounds))).await;
    end(truth::spawn("few", few(rounds))).await;
    end(truth::spawn("outer", outer(rounds))).await;
    end(truth::spawn("checked", async move {
        let (_sender, mut failures) = unbounded_channel();
        checked(rounds, &mut failures).await;
    }))
    .await;
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
