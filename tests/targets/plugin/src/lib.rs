//! A shared object with its own Tokio, whose tasks block.

use std::sync::OnceLock;
use std::time::Duration;

use targets::runtime::multi_thread as multi_thread_runtime;
use targets::work::block_ms;
use targets::{alternate, truth};
use tokio::runtime::{Builder, Runtime};

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

/// One call of `block_on`, on a runtime of several threads or of the calling one.
#[no_mangle]
pub extern "C" fn plugin_call(multi_thread: bool, round: u32) {
    static MULTI: OnceLock<Runtime> = OnceLock::new();
    thread_local! {
        static CURRENT: Runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    }
    if multi_thread {
        alternate::call(
            MULTI.get_or_init(|| multi_thread_runtime(2)),
            round as usize,
        );
    } else {
        CURRENT.with(|runtime| alternate::call(runtime, round as usize));
    }
}

/// Prints the truth.
#[no_mangle]
pub extern "C" fn plugin_dump() {
    truth::dump();
}

async fn blocker(rounds: u32, ms: u64) {
    for _ in 0..rounds {
        tokio::time::sleep(Duration::from_millis(3)).await;
        block_ms(ms);
    }
}
