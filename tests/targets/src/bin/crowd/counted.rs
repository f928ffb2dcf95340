//! Tasks whose number the program knows at any moment: many that stay, and others that come and go.

use std::io::BufRead as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use targets::control;
use tokio::runtime::{Builder, Handle};

use crate::{waits_for_ever, STOP};

static ALIVE: AtomicU64 = AtomicU64::new(0);

pub fn many(count: u64) {
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

pub fn churn(idle: u64) {
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

pub fn paced() {
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
