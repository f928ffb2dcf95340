//! Closures on the blocking pools, and runtimes that end while one runs.

use std::io::BufRead as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use targets::control;
use tokio::runtime::Builder;

use crate::{blocks, STOP};

async fn yields() {
    loop {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Three workers; four threads for closures, of which two are kept busy and one waits, and at the
/// next line all four are and five closures wait; then a runtime on one thread with a closure of
/// its own.
pub fn pool() {
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

/// Two runtimes with a closure each: one is ended in the background, the other one is dropped two
/// seconds later, which takes three.
pub fn shutdown() {
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
