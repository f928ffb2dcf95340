//! Polls as fast as it can (`busy`), also with a task that blocks for 40 ms every 200 ms and says
//! so (`spikes`), blocks for a while in each poll (`block`), polls so many times a second on two
//! workers (`pace`) or on one thread (`alone`), or computes and blocks by turns on a deep stack
//! (`storm`), and prints its rate each second, or as often as it is told to. Or it polls nothing,
//! and two of its threads wake each other as fast as they can (`handover`).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use targets::clock::{monotonic_ns, process_cpu_ns};
use targets::control::{self, Options};
use targets::runtime::{current_thread, multi_thread};

static POLLS: AtomicU64 = AtomicU64::new(0);

/// Each turn: `rounds` steps of arithmetic, so that the rate can be chosen.
async fn turn(rounds: u32) {
    loop {
        let mut value = 1_u64;
        for _ in 0..rounds {
            value = std::hint::black_box(value.wrapping_mul(31).wrapping_add(7));
        }
        POLLS.fetch_add(1, Ordering::Relaxed);
        tokio::task::yield_now().await;
    }
}

/// Waits for 200 ms and blocks for 40.
async fn spike() {
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let start_ns = monotonic_ns();
        std::thread::sleep(Duration::from_millis(40));
        let end_ns = monotonic_ns();
        control::say(&format!(
            r#"{{"type":"spike","start_ns":{start_ns},"end_ns":{end_ns}}}"#
        ));
    }
}

/// Each turn: blocks for `rounds` microseconds.
async fn block(rounds: u32) {
    loop {
        std::thread::sleep(Duration::from_micros(rounds.into()));
        POLLS.fetch_add(1, Ordering::Relaxed);
        tokio::task::yield_now().await;
    }
}

/// Each turn: for `rounds` microseconds and more computes and blocks by turns, with 16 KiB of stack
/// below it.
async fn storm(rounds: u32) {
    loop {
        compute_and_block(Duration::from_micros(u64::from(rounds) / 6));
        POLLS.fetch_add(1, Ordering::Relaxed);
        tokio::task::yield_now().await;
    }
}

#[inline(never)]
fn compute_and_block(part: Duration) {
    let mut frame = std::hint::black_box([1_u8; 16 << 10]);
    for _ in 0..3 {
        let start = Instant::now();
        while start.elapsed() < part {
            frame[7] = std::hint::black_box(frame[7].wrapping_mul(31));
        }
        std::thread::sleep(part);
    }
    std::hint::black_box(&frame);
}

/// `rate` polls a second, in bursts of a millisecond's worth.
async fn pace(rate: u32) {
    let mut ticks = tokio::time::interval(Duration::from_millis(1));
    let (mut due, mut done) = (0, 0);
    loop {
        ticks.tick().await;
        due += u64::from(rate);
        // Waiting for the tick is a poll too.
        loop {
            done += 1_000;
            POLLS.fetch_add(1, Ordering::Relaxed);
            if done >= due {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
}

/// Wakes another thread, which wakes this one in turn.
fn hand_over() {
    let (there, here) = std::sync::mpsc::sync_channel::<()>(0);
    let (back, again) = std::sync::mpsc::sync_channel(0);
    std::thread::spawn(move || while here.recv().is_ok() && back.send(()).is_ok() {});
    while there.send(()).is_ok() && again.recv().is_ok() {}
}

struct Reading {
    polls: u64,
    cpu_ns: u64,
}

impl Reading {
    fn now() -> Self {
        Reading {
            polls: POLLS.load(Ordering::Relaxed),
            cpu_ns: process_cpu_ns(),
        }
    }
}

fn main() {
    let options = Options::parse(&[
        "busy", "spikes", "block", "pace", "alone", "storm", "handover",
    ]);
    control::listen();
    let runtime = multi_thread(2);
    // One task can be paced exactly.
    let tasks = match options.scenario.as_str() {
        "pace" => 1,
        "alone" | "handover" => 0,
        _ => 16,
    };
    if options.scenario == "alone" {
        let rate = options.rounds;
        std::thread::spawn(move || {
            let runtime = current_thread();
            runtime.block_on(async { tokio::spawn(pace(rate)).await.expect("no panic") });
        });
    }
    if options.scenario == "handover" {
        std::thread::spawn(hand_over);
    }
    if options.scenario == "spikes" {
        runtime.spawn(spike());
    }
    for _ in 0..tasks {
        match options.scenario.as_str() {
            "block" => runtime.spawn(block(options.rounds)),
            "storm" => runtime.spawn(storm(options.rounds)),
            "pace" => runtime.spawn(pace(options.rounds)),
            _ => runtime.spawn(turn(options.rounds)),
        };
    }
    control::ready();
    let end = Instant::now() + Duration::from_millis(options.millis);
    let (mut before, mut start) = (Reading::now(), Instant::now());
    while Instant::now() < end {
        std::thread::sleep(Duration::from_millis(options.millis.min(options.every)));
        let now = Reading::now();
        let polls = now.polls - before.polls;
        let rate = polls as f64 / start.elapsed().as_secs_f64();
        let cpu_ns = (now.cpu_ns - before.cpu_ns) as f64 / polls.max(1) as f64;
        control::say(&format!(
            r#"{{"type":"rate","at_ns":{},"polls_per_second":{rate:.0},"cpu_ns_per_poll":{cpu_ns:.1},"polls":{}}}"#,
            monotonic_ns(),
            now.polls
        ));
        (before, start) = (now, Instant::now());
    }
    runtime.shutdown_background();
}
