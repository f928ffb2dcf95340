//! More than a thousand task types, each with a poll function of its own, as large programs have
//! them; on a multi_thread runtime that then idles (`many`), or on a current_thread runtime that
//! goes on polling (`current_thread`).

use std::time::{Duration, Instant};

use targets::control::{self, Options};
use tokio::runtime::{Builder, Runtime};

/// `N` is in the code, so that no two are merged.
async fn kind<const N: u64>() -> u64 {
    tokio::task::yield_now().await;
    std::hint::black_box(N)
}

macro_rules! sixteen {
    ($runtime:expr, $from:expr) => {
        sixteen!($runtime, $from; 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    };
    ($runtime:expr, $from:expr; $($n:literal)*) => {
        $(drop($runtime.spawn(kind::<{ $from * 16 + $n }>()));)*
    };
}

macro_rules! two_hundred_fifty_six {
    ($runtime:expr, $from:expr) => {
        two_hundred_fifty_six!($runtime, $from; 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    };
    ($runtime:expr, $from:expr; $($n:literal)*) => {
        $(sixteen!($runtime, ($from * 16 + $n));)*
    };
}

fn spawn_all(runtime: &Runtime) {
    two_hundred_fifty_six!(runtime, 0);
    two_hundred_fifty_six!(runtime, 1);
    two_hundred_fifty_six!(runtime, 2);
    two_hundred_fifty_six!(runtime, 3);
}

/// Polls, and turns of the loop through `epoll_wait`, about a thousand a second.
async fn tick(until: Instant) {
    while Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn current_thread(millis: u64) {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    spawn_all(&runtime);
    control::ready();
    let until = Instant::now() + Duration::from_millis(millis);
    let ticks = runtime.spawn(tick(until));
    runtime.block_on(ticks).expect("the task ends");
}

fn main() {
    let options = Options::parse(&["many", "current_thread"]);
    control::listen();
    if options.scenario == "current_thread" {
        return current_thread(options.millis);
    }
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .expect("a runtime");
    spawn_all(&runtime);
    control::ready();
    std::thread::sleep(Duration::from_millis(options.millis));
}
