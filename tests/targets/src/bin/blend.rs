//! Computes in three functions, and says how much CPU time each of them took.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

use targets::clock::thread_cpu_ns;
use targets::control::{self, Options};
use targets::runtime::multi_thread;

/// CPU time spent in each function, in nanoseconds.
static SPENT: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];
const NAMES: [&str; 3] = ["hash", "sort", "parse"];

#[inline(never)]
fn hash(bytes: &[u8], rounds: u32) -> u64 {
    let mut value = 0xcbf2_9ce4_8422_2325;
    for _ in 0..rounds {
        for byte in black_box(bytes) {
            value = (value ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    value
}

#[inline(never)]
fn sort(values: &mut [u64], rounds: u32) {
    for round in 0..rounds {
        let mut state = u64::from(round) + 1;
        for value in values.iter_mut() {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            *value = state >> 20;
        }
        black_box(&mut *values).sort_unstable();
    }
}

#[inline(never)]
fn parse(text: &str, rounds: u32) -> u64 {
    let mut sum = 0_u64;
    for _ in 0..rounds {
        for word in black_box(text).split(' ') {
            sum = sum.wrapping_add(word.parse::<u64>().unwrap_or(0));
        }
    }
    sum
}

fn spend<R>(index: usize, work: impl FnOnce() -> R) -> R {
    let before = thread_cpu_ns();
    let result = work();
    SPENT[index].fetch_add(thread_cpu_ns() - before, Ordering::Relaxed);
    result
}

async fn blend(rounds: u32) {
    let bytes = vec![7_u8; 1 << 14];
    let mut values = vec![0_u64; 1 << 10];
    let text = "12345 ".repeat(1 << 10);
    while !control::over() {
        black_box(spend(0, || hash(&bytes, rounds * 40)));
        spend(1, || sort(&mut values, rounds * 20));
        black_box(spend(2, || parse(&text, rounds * 15)));
        tokio::task::yield_now().await;
    }
}

fn main() {
    let options = Options::parse(&["blend"]);
    control::listen();
    let runtime = multi_thread(1);
    runtime.block_on(async {
        let task = tokio::spawn(blend(options.rounds));
        control::ready();
        let _ = task.await;
    });
    for (name, spent) in NAMES.iter().zip(&SPENT) {
        let ns = spent.load(Ordering::Relaxed);
        control::say(&format!(
            r#"{{"type":"spent","function":"blend::{name}","cpu_ns":{ns}}}"#
        ));
    }
    control::say(r#"{"type":"end"}"#);
}
