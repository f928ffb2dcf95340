//! Runtimes as most programs have them.

use tokio::runtime::{Builder, Runtime};

/// A multi_thread runtime with timers.
pub fn multi_thread(workers: usize) -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_time()
        .build()
        .expect("a runtime")
}
