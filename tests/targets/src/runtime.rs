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

/// A runtime on the thread that blocks on it, with timers and I/O.
pub fn current_thread() -> Runtime {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}
