//! Locks that another thread holds for a known time.

use std::sync::mpsc::{channel, Receiver, Sender};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use targets::clock::thread_id;
use targets::control;
use targets::truth::span;

use crate::{pause, LONG_MS};

/// A thread that takes a lock when asked to, says so, and holds it for a while.
struct Holder {
    ask: Sender<()>,
    held: Receiver<()>,
}

impl Holder {
    /// `hold` takes the lock, calls its argument, and releases the lock when that returns.
    fn new(lock: &'static str, hold: impl Fn(&dyn Fn()) + Send + 'static) -> Self {
        let (ask, asked) = channel();
        let (say, held) = channel();
        std::thread::Builder::new()
            .name(format!("{lock}-holder"))
            .spawn(move || {
                control::say(&format!(
                    r#"{{"type":"holder","lock":"{lock}","tid":{}}}"#,
                    thread_id()
                ));
                while asked.recv().is_ok() {
                    hold(&|| {
                        let _ = say.send(());
                        std::thread::sleep(Duration::from_millis(LONG_MS));
                    });
                }
            })
            .expect("a thread can be started");
        Holder { ask, held }
    }

    /// Returns once the lock is held; within microseconds.
    fn take(&self) {
        self.ask.send(()).expect("the holder lives");
        self.held.recv().expect("the holder lives");
    }
}

// @mutex_task
pub async fn mutex_task(rounds: u32) {
    let mutex = Arc::new(Mutex::new(0_u64));
    let theirs = mutex.clone();
    let holder = Mutex::new(Holder::new("mutex", move |wait| {
        let _guard = theirs.lock().expect("no panic");
        wait();
    }));
    for _ in 0..rounds {
        mutex_child(&mutex, &holder).await;
    }
}

// @mutex_child
async fn mutex_child(mutex: &Mutex<u64>, holder: &Mutex<Holder>) {
    pause().await;
    holder.lock().expect("no panic").take();
    mutex_call(mutex);
}

#[inline(never)]
// @mutex_call
fn mutex_call(mutex: &Mutex<u64>) {
    let _span = span("mutex");
    *mutex.lock().expect("no panic") += 1;
}

// @rwlock_task
pub async fn rwlock_task(rounds: u32) {
    let lock = Arc::new(RwLock::new(0_u64));
    let theirs = lock.clone();
    let holder = Mutex::new(Holder::new("rwlock", move |wait| {
        let _guard = theirs.write().expect("no panic");
        wait();
    }));
    for _ in 0..rounds {
        rwlock_child(&lock, &holder).await;
    }
}

// @rwlock_child
async fn rwlock_child(lock: &RwLock<u64>, holder: &Mutex<Holder>) {
    pause().await;
    holder.lock().expect("no panic").take();
    rwlock_call(lock);
}

#[inline(never)]
// @rwlock_call
fn rwlock_call(lock: &RwLock<u64>) -> u64 {
    let _span = span("rwlock");
    *lock.read().expect("no panic")
}

// @lot_task
pub async fn lot_task(rounds: u32) {
    let lock = Arc::new(parking_lot::Mutex::new(0_u64));
    let theirs = lock.clone();
    let holder = Mutex::new(Holder::new("lot", move |wait| {
        let _guard = theirs.lock();
        wait();
    }));
    for _ in 0..rounds {
        lot_child(&lock, &holder).await;
    }
}

// @lot_child
async fn lot_child(lock: &parking_lot::Mutex<u64>, holder: &Mutex<Holder>) {
    pause().await;
    holder.lock().expect("no panic").take();
    lot_call(lock);
}

#[inline(never)]
// @lot_call
fn lot_call(lock: &parking_lot::Mutex<u64>) {
    let _span = span("lot");
    *lock.lock() += 1;
}
