//! Handles thousands of signals while it polls: one that each poll raises in its own thread, and
//! one from a timer that comes at any instruction. Prints how many were raised and how many were
//! handled.

use std::sync::atomic::{AtomicU64, Ordering};

use targets::control::{self, Options};
use targets::runtime::multi_thread;
use targets::work::spin_ms;

const TASKS: u32 = 4;

static RAISED: AtomicU64 = AtomicU64::new(0);
static HANDLED: AtomicU64 = AtomicU64::new(0);
static TIMER: AtomicU64 = AtomicU64::new(0);

extern "C" fn count_user(_: libc::c_int) {
    HANDLED.fetch_add(1, Ordering::Relaxed);
}

extern "C" fn count_timer(_: libc::c_int) {
    TIMER.fetch_add(1, Ordering::Relaxed);
}

fn handle(signal: libc::c_int, handler: extern "C" fn(libc::c_int)) {
    // SAFETY: the handlers only add to atomics; all zeros is a valid `sigaction` with no flags but
    // the one set.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_RESTART;
        assert_eq!(libc::sigaction(signal, &action, std::ptr::null_mut()), 0);
    }
}

fn start_timer() {
    let every = libc::timeval {
        tv_sec: 0,
        tv_usec: 1_000,
    };
    let timer = libc::itimerval {
        it_interval: every,
        it_value: every,
    };
    // SAFETY: a valid timer, and no place for the old one.
    let result = unsafe { libc::setitimer(libc::ITIMER_PROF, &timer, std::ptr::null_mut()) };
    assert_eq!(result, 0);
}

async fn signals(rounds: u32) {
    for _ in 0..rounds {
        RAISED.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the signal has a handler.
        unsafe { libc::raise(libc::SIGUSR1) };
        spin_ms(1);
        tokio::task::yield_now().await;
    }
}

fn main() {
    let options = Options::parse(&["signals"]);
    handle(libc::SIGUSR1, count_user);
    handle(libc::SIGPROF, count_timer);
    control::listen();
    let runtime = multi_thread(2);
    control::ready_to_go(&options);
    start_timer();
    runtime.block_on(async {
        let tasks: Vec<_> = (0..TASKS)
            .map(|_| tokio::spawn(signals(options.rounds)))
            .collect();
        for task in tasks {
            task.await.expect("no panic");
        }
    });
    control::say(&format!(
        r#"{{"type":"counters","raised":{},"handled":{},"timer":{}}}"#,
        RAISED.load(Ordering::Relaxed),
        HANDLED.load(Ordering::Relaxed),
        TIMER.load(Ordering::Relaxed),
    ));
    control::finish(&options);
}
