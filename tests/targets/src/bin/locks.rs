//! Locks that were handed to futures which are not polled any more, each with who waits for it, and
//! locks that are waited for in vain for other reasons.
//!
//! `locks`: tasks of both kinds. `root`: the future given to `block_on` keeps a lock from a task.
//! `busy`: a lock that tasks take in turn, each some time after it was handed to them, since others
//! keep the workers.

use std::future::{poll_fn, Future};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use targets::control::{self, Options};
use targets::truth::TaskId;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, Mutex, Notify, RwLock, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

const FOR_EVER: Duration = Duration::from_secs(3600);

/// A task that was handed a lock and does not take it; so many futures wait for that lock, its own
/// among them or not.
fn say(task: &JoinHandle<()>, name: &str, own: bool, waiting: u64) {
    let id = TaskId::default();
    id.learn(task);
    control::say(&format!(
        r#"{{"type":"kept","task_id":{},"name":"{name}","own":{own},"waiting":{waiting}}}"#,
        id.get()
    ));
}

/// Polls a future once.
async fn begin<F: Future>(mut future: Pin<&mut F>) {
    poll_fn(|context| {
        let _ = future.as_mut().poll(context);
        Poll::Ready(())
    })
    .await;
}

async fn locks(lock: Arc<Mutex<u64>>) {
    *lock.lock().await += 1;
}

async fn reads(lock: Arc<RwLock<u64>>) {
    std::hint::black_box(*lock.read().await);
}

async fn acquires(semaphore: Arc<Semaphore>) {
    drop(semaphore.acquire().await);
}

/// As in the bug reports: the branch of `select!` waits for the same lock as the future that it
/// keeps.
async fn keeps_a_mutex(lock: Arc<Mutex<u64>>) {
    let mut first = Box::pin(lock.lock());
    tokio::select! {
        guard = &mut first => drop(guard),
        () = sleep(Duration::from_millis(50)) => {
            *lock.lock().await += 1;
        }
    }
}

/// The same of a lock that is read, one level deeper and boxed, as in a web service.
async fn keeps_a_rwlock(lock: Arc<RwLock<u64>>) {
    let inner: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(async move {
        let mut first = Box::pin(lock.write());
        begin(first.as_mut()).await;
        std::hint::black_box(*lock.read().await);
        drop(first.await);
    });
    inner.await;
}

/// Waits for something else meanwhile, and the others wait for it.
async fn keeps_permits(semaphore: Arc<Semaphore>) {
    let first = semaphore.acquire_many(2);
    tokio::pin!(first);
    begin(first.as_mut()).await;
    sleep(FOR_EVER).await;
    drop(first.await);
}

/// The place in a bounded channel.
async fn keeps_a_place(sender: mpsc::Sender<u64>) {
    let first = sender.reserve();
    tokio::pin!(first);
    begin(first.as_mut()).await;
    sleep(FOR_EVER).await;
    drop(first.await);
}

async fn sends(sender: mpsc::Sender<u64>) {
    let _ = sender.send(1).await;
}

/// Holds a lock over its await: those who wait for it are not handed it.
async fn holds(lock: Arc<Mutex<u64>>) {
    let guard = lock.lock().await;
    sleep(FOR_EVER).await;
    drop(guard);
}

/// Gives up, and begins anew.
async fn tries(lock: Arc<Mutex<u64>>) {
    loop {
        let _ = timeout(Duration::from_millis(5), lock.lock()).await;
    }
}

/// Takes turns with others.
async fn takes_turns(lock: Arc<Mutex<u64>>) {
    loop {
        let mut guard = lock.lock().await;
        *guard += 1;
        sleep(Duration::from_millis(1)).await;
    }
}

/// Takes turns, and does nothing in between: it hands the lock on, and waits for it again.
async fn takes_turns_at_once(lock: Arc<Mutex<u64>>) {
    loop {
        *lock.lock().await += 1;
    }
}

/// Keeps a worker for some time, again and again.
async fn computes() {
    loop {
        let until = Instant::now() + Duration::from_millis(3);
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        tokio::task::yield_now().await;
    }
}

/// Is about to be handed a lock, and drops that future instead; then it waits for one that is held.
async fn changes_its_mind(lock: Arc<Mutex<u64>>, other: Arc<Notify>) {
    {
        let first = lock.lock();
        tokio::pin!(first);
        tokio::select! {
            biased;
            () = other.notified() => {}
            guard = &mut first => drop(guard),
        }
    }
    let guard = lock.lock().await;
    sleep(FOR_EVER).await;
    drop(guard);
}

fn pause() {
    std::thread::sleep(Duration::from_millis(100));
}

fn kept(runtime: &Runtime) {
    let mutex = Arc::new(Mutex::new(0));
    let held = runtime.block_on(mutex.clone().lock_owned());
    let task = runtime.spawn(keeps_a_mutex(mutex.clone()));
    pause();
    drop(runtime.spawn(locks(mutex)));
    pause();
    drop(held);
    say(&task, "keeps_a_mutex", true, 2);

    let rwlock = Arc::new(RwLock::new(0));
    let held = runtime.block_on(rwlock.clone().read_owned());
    let task = runtime.spawn(keeps_a_rwlock(rwlock.clone()));
    pause();
    for _ in 0..2 {
        drop(runtime.spawn(reads(rwlock.clone())));
    }
    pause();
    drop(held);
    say(&task, "keeps_a_rwlock", true, 3);

    let semaphore = Arc::new(Semaphore::new(2));
    let held = runtime.block_on(semaphore.clone().acquire_owned());
    let task = runtime.spawn(keeps_permits(semaphore.clone()));
    pause();
    for _ in 0..3 {
        drop(runtime.spawn(acquires(semaphore.clone())));
    }
    pause();
    drop(held);
    say(&task, "keeps_permits", false, 3);

    let (sender, mut receiver) = mpsc::channel(1);
    runtime.block_on(sender.send(0)).expect("a place");
    let task = runtime.spawn(keeps_a_place(sender.clone()));
    pause();
    drop(runtime.spawn(sends(sender)));
    pause();
    runtime.block_on(receiver.recv()).expect("a value");
    std::mem::forget(receiver);
    say(&task, "keeps_a_place", false, 1);
}

fn in_vain(runtime: &Runtime) {
    let held = Arc::new(Mutex::new(0));
    drop(runtime.spawn(holds(held.clone())));
    pause();
    for _ in 0..3 {
        drop(runtime.spawn(locks(held.clone())));
        drop(runtime.spawn(tries(held.clone())));
    }
    let shared = Arc::new(Mutex::new(0));
    for _ in 0..8 {
        drop(runtime.spawn(takes_turns(shared.clone())));
    }
    let (changed, other) = (Arc::new(Mutex::new(0)), Arc::new(Notify::new()));
    let first = runtime.block_on(changed.clone().lock_owned());
    drop(runtime.spawn(changes_its_mind(changed.clone(), other.clone())));
    pause();
    drop(runtime.spawn(holds(changed)));
    pause();
    // Both are ready when it is polled next.
    runtime.block_on(async move {
        drop(first);
        other.notify_one();
    });
}

/// The root future is no task, and neither is what it keeps from one.
fn root(runtime: &Runtime) {
    let mutex = Arc::new(Mutex::new(0));
    let held = runtime.block_on(mutex.clone().lock_owned());
    runtime.block_on(async {
        let first = mutex.lock();
        tokio::pin!(first);
        begin(first.as_mut()).await;
        drop(runtime.spawn(locks(mutex.clone())));
        sleep(Duration::from_millis(100)).await;
        drop(held);
        control::ready();
        control::go().await;
        drop(first.await);
    });
}

/// Of each lock there is nearly always one task that has been handed it and waits for a worker, and
/// two wait for the lock. There is so much memory that they change while it is searched, and three
/// do not divide the 128 polls after which Tokio turns to others.
fn busy(runtime: &Runtime) {
    std::mem::forget(vec![1_u8; 8 << 20]);
    for _ in 0..50 {
        let lock = Arc::new(Mutex::new(0));
        for _ in 0..3 {
            drop(runtime.spawn(takes_turns_at_once(lock.clone())));
        }
    }
    for _ in 0..4 {
        drop(runtime.spawn(computes()));
    }
    control::ready();
    runtime.block_on(control::go());
}

fn main() {
    let options = Options::parse(&["locks", "root", "busy"]);
    control::listen();
    let runtime = targets::runtime::multi_thread(2);
    match options.scenario.as_str() {
        "root" => root(&runtime),
        "busy" => busy(&runtime),
        _ => {
            kept(&runtime);
            in_vain(&runtime);
            control::ready();
            runtime.block_on(control::go());
        }
    }
    runtime.shutdown_background();
}
