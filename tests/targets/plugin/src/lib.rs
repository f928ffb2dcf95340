//! A shared object with its own Tokio, whose tasks block.

use std::time::Duration;

use targets::truth;
use targets::work::block_ms;
use tokio::runtime::Builder;

/// Runs `rounds` rounds of two tasks that block the loop, then prints the truth.
#[no_mangle]
pub extern "C" fn plugin_run(rounds: u32) {
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .expect("a runtime");
    runtime.block_on(async move {
        let a = truth::spawn("plugin_a", blocker(rounds, 12));
        let b = truth::spawn("plugin_b", blocker(rounds, 4));
        a.await.expect("no panic");
        b.await.expect("no panic");
    });
    truth::dump();
}

async fn blocker(rounds: u32, ms: u64) {
    for _ in 0..rounds {
        tokio::time::sleep(Duration::from_millis(3)).await;
        block_ms(ms);
    }
}
