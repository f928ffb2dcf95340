//! Is stuck already when it says that it is ready: `block` in a sleep, `lock` in a mutex, `spin` in
//! a loop.
//!
//! It stays so for `--millis` after that. `all_` blocks every worker, `current_` uses a
//! current_thread runtime.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use targets::control::{self, Gate, Options};
use targets::source::line_of;
use targets::truth;
use targets::work::block_ms;
use tokio::runtime::Builder;

const WORKERS: usize = 2;

static OVER: AtomicBool = AtomicBool::new(false);
static INSIDE: AtomicUsize = AtomicUsize::new(0);

#[derive(Clone, Copy)]
enum How {
    Block,
    Lock,
    Spin,
}

// @task
async fn task(how: How, millis: u64, mutex: Arc<Mutex<u64>>) {
    tokio::time::sleep(Duration::from_millis(3)).await;
    child(how, millis, &mutex).await;
}

// @child
async fn child(how: How, millis: u64, mutex: &Mutex<u64>) {
    tokio::task::yield_now().await;
    INSIDE.fetch_add(1, Ordering::Release);
    get_stuck(how, millis, mutex);
}

#[inline(never)]
// @call
fn get_stuck(how: How, millis: u64, mutex: &Mutex<u64>) {
    match how {
        How::Block => block_ms(millis),
        How::Lock => *mutex.lock().expect("no panic") += 1,
        How::Spin => {
            while !OVER.load(Ordering::Relaxed) {
                std::hint::black_box(());
            }
        }
    }
}

fn main() {
    let scenarios = [
        "block",
        "lock",
        "spin",
        "all_block",
        "all_lock",
        "all_spin",
        "current_block",
        "current_lock",
        "current_spin",
    ];
    let options = Options::parse(&scenarios);
    control::listen();
    if options.gate == Gate::Before {
        control::ready();
        control::wait_go();
    }
    let how = match options.scenario.rsplit('_').next() {
        Some("lock") => How::Lock,
        Some("spin") => How::Spin,
        _ => How::Block,
    };
    let tasks = if options.scenario.starts_with("all_") {
        WORKERS
    } else {
        1
    };
    let mut builder = if options.scenario.starts_with("current_") {
        Builder::new_current_thread()
    } else {
        Builder::new_multi_thread()
    };
    let runtime = builder
        .worker_threads(WORKERS)
        .enable_time()
        .build()
        .expect("a runtime");
    let mutex = Arc::new(Mutex::new(0));
    let millis = options.millis;
    let gate = options.gate;

    let theirs = mutex.clone();
    let watcher = std::thread::spawn(move || {
        let guard = theirs.lock().expect("no panic");
        while INSIDE.load(Ordering::Acquire) < tasks {
            block_ms(1);
        }
        let source = include_str!("stuck.rs");
        let line = |label| line_of(source, label).expect("marked");
        control::say(&format!(
            r#"{{"type":"stuck","file":"src/bin/stuck.rs","task_line":{},"child_line":{},"function":"stuck::get_stuck","tasks":{tasks}}}"#,
            line("task"),
            line("child"),
        ));
        block_ms(20);
        if gate == Gate::None {
            control::ready();
        }
        block_ms(millis.saturating_sub(20));
        OVER.store(true, Ordering::Relaxed);
        drop(guard);
    });
    runtime.block_on(async {
        let handles: Vec<_> = (0..tasks)
            .map(|_| truth::spawn("stuck", task(how, millis, mutex.clone())))
            .collect();
        for handle in handles {
            handle.await.expect("no panic");
        }
    });
    watcher.join().expect("no panic");
    control::finish(&options);
}
