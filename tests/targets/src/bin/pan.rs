//! Tasks that panic and tasks that capture a backtrace; prints how many did.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use targets::control::{self, Options};
use targets::runtime::multi_thread;
use targets::work::block_ms;

static CAPTURED: AtomicU64 = AtomicU64::new(0);
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Counts itself when unwinding reaches it.
struct Guard;

impl Drop for Guard {
    fn drop(&mut self) {
        DROPPED.fetch_add(1, Ordering::Relaxed);
    }
}

async fn panics(ms: u64) {
    let _guard = Guard;
    tokio::time::sleep(Duration::from_millis(1)).await;
    block_ms(ms);
    panic!("on purpose");
}

async fn panics_below() {
    let _guard = Guard;
    panics(0).await;
}

async fn captures() {
    tokio::time::sleep(Duration::from_millis(1)).await;
    let trace = Backtrace::force_capture();
    if trace.status() == BacktraceStatus::Captured && !trace.to_string().is_empty() {
        CAPTURED.fetch_add(1, Ordering::Relaxed);
    }
}

fn main() {
    std::panic::set_hook(Box::new(|_| ()));
    let options = Options::parse(&["pan"]);
    control::listen();
    let runtime = multi_thread(2);
    control::ready_to_go(&options);
    let (mut panicked, mut caught) = (0, 0);
    for round in 0..options.rounds {
        panicked += runtime.block_on(async {
            let ms = if round % 10 == 0 { 12 } else { 0 };
            let tasks = [tokio::spawn(panics(ms)), tokio::spawn(panics_below())];
            let capture = tokio::spawn(captures());
            let mut panicked = 0;
            for task in tasks {
                panicked += u32::from(task.await.is_err_and(|error| error.is_panic()));
            }
            capture.await.expect("no panic");
            panicked
        });
        let root = catch_unwind(AssertUnwindSafe(|| {
            runtime.block_on(async { panic!("in the root") })
        }));
        caught += u32::from(root.is_err());
    }
    control::say(&format!(
        r#"{{"type":"counters","rounds":{},"panicked":{panicked},"caught":{caught},"dropped":{},"captured":{}}}"#,
        options.rounds,
        DROPPED.load(Ordering::Relaxed),
        CAPTURED.load(Ordering::Relaxed),
    ));
    control::finish(&options);
}
