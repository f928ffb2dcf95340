//! Waiting for other threads, with and without sleep.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{channel, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use targets::truth::span;
use targets::work::spin_ms;

use crate::{pause, LONG_MS};

/// Does something on another thread, after a while.
fn later(what: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(LONG_MS));
        what();
    })
}

// @channel_task
pub async fn channel_task(rounds: u32) {
    for _ in 0..rounds {
        channel_child().await;
    }
}

// @channel_child
async fn channel_child() {
    pause().await;
    let (send, receive) = channel();
    later(move || {
        let _ = send.send(());
    });
    channel_call(&receive);
}

#[inline(never)]
// @channel_call
fn channel_call(receive: &Receiver<()>) {
    let _span = span("channel");
    receive.recv().expect("the sender lives");
}

// @join_task
pub async fn join_task(rounds: u32) {
    for _ in 0..rounds {
        join_child().await;
    }
}

// @join_child
async fn join_child() {
    pause().await;
    join_call(later(|| {}));
}

#[inline(never)]
// @join_call
fn join_call(thread: JoinHandle<()>) {
    let _span = span("join");
    thread.join().expect("no panic");
}

// @condvar_task
pub async fn condvar_task(rounds: u32) {
    for _ in 0..rounds {
        condvar_child().await;
    }
}

// @condvar_child
async fn condvar_child() {
    pause().await;
    let done = Arc::new((Mutex::new(false), Condvar::new()));
    let theirs = done.clone();
    later(move || {
        *theirs.0.lock().expect("no panic") = true;
        theirs.1.notify_all();
    });
    condvar_call(&done.0, &done.1);
}

#[inline(never)]
// @condvar_call
fn condvar_call(done: &Mutex<bool>, changed: &Condvar) {
    let _span = span("condvar");
    let mut guard = done.lock().expect("no panic");
    while !*guard {
        guard = changed.wait(guard).expect("no panic");
    }
}

// @spin_task
pub async fn spin_task(rounds: u32) {
    for _ in 0..rounds {
        spin_child().await;
    }
}

// @spin_child
async fn spin_child() {
    pause().await;
    let done = Arc::new(AtomicBool::new(false));
    let theirs = done.clone();
    later(move || theirs.store(true, Ordering::Release));
    spin_call(&done);
}

#[inline(never)]
// @spin_call
fn spin_call(done: &AtomicBool) {
    let _span = span("spin");
    while !done.load(Ordering::Acquire) {
        std::thread::yield_now();
    }
}

// @hint_task
pub async fn hint_task(rounds: u32) {
    for _ in 0..rounds {
        hint_child().await;
    }
}

// @hint_child
async fn hint_child() {
    pause().await;
    let done = Arc::new(AtomicBool::new(false));
    let theirs = done.clone();
    later(move || theirs.store(true, Ordering::Release));
    hint_call(&done);
}

#[inline(never)]
// @hint_call
fn hint_call(done: &AtomicBool) {
    let _span = span("hint");
    while !done.load(Ordering::Acquire) {
        std::hint::spin_loop();
    }
}

/// A thread that computes for whoever waits for it, with its own lock so that the wait is no
/// channel's.
struct Helper {
    ask: Sender<Arc<(Mutex<bool>, Condvar)>>,
}

impl Helper {
    fn start() -> Self {
        let (ask, asked) = channel::<Arc<(Mutex<bool>, Condvar)>>();
        std::thread::Builder::new()
            .name("helper".to_owned())
            .spawn(move || {
                while let Ok(done) = asked.recv() {
                    spin_ms(LONG_MS);
                    *done.0.lock().expect("no panic") = true;
                    done.1.notify_all();
                }
            })
            .expect("a thread can be started");
        Helper { ask }
    }

    fn helped_wait(&self) {
        let done = Arc::new((Mutex::new(false), Condvar::new()));
        self.ask.send(done.clone()).expect("the helper lives");
        let mut guard = done.0.lock().expect("no panic");
        while !*guard {
            guard = done.1.wait(guard).expect("no panic");
        }
    }
}

// @helped_task
pub async fn helped_task(rounds: u32) {
    let helper = Helper::start();
    for _ in 0..rounds {
        helped_child(&helper).await;
    }
}

// @helped_child
async fn helped_child(helper: &Helper) {
    pause().await;
    helped_call(helper);
}

#[inline(never)]
// @helped_call
fn helped_call(helper: &Helper) {
    let _span = span("helped");
    helper.helped_wait();
}
