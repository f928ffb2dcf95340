//! Polls as fast as it can, and prints its rate each second.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use targets::control::{self, Options};
use tokio::runtime::Builder;

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

fn main() {
    let options = Options::parse(&["busy"]);
    control::listen();
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .expect("a runtime");
    for _ in 0..16 {
        runtime.spawn(turn(options.rounds));
    }
    control::ready();
    let end = Instant::now() + Duration::from_millis(options.millis);
    let (mut before, mut start) = (POLLS.load(Ordering::Relaxed), Instant::now());
    while Instant::now() < end {
        std::thread::sleep(Duration::from_millis(options.millis.min(1_000)));
        let polls = POLLS.load(Ordering::Relaxed);
        let rate = (polls - before) as f64 / start.elapsed().as_secs_f64();
        control::say(&format!(
            r#"{{"type":"rate","polls_per_second":{rate:.0},"polls":{polls}}}"#
        ));
        (before, start) = (polls, Instant::now());
    }
    runtime.shutdown_background();
}
