//! Locks that were handed to futures in a `FuturesUnordered` which nobody polls any more, each with
//! who waits for it, and locks that futures in such sets wait for in vain for other reasons, or
//! take in turn.

use std::future::{pending, poll_fn, Future};
use std::pin::{pin, Pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::{iter, FuturesUnordered, StreamExt as _};
use targets::control::{self, Options};
use targets::truth::TaskId;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, Mutex, Notify, RwLock, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// More futures than `join_all` polls without a set.
const MANY: usize = 40;
const SOON: Duration = Duration::from_millis(20);

/// Futures that wait for something.
static WAITING: AtomicUsize = AtomicUsize::new(0);

/// Says when a future has been polled and waits.
async fn waits<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut is_new = true;
    poll_fn(|context| {
        let polled = future.as_mut().poll(context);
        if polled.is_pending() && is_new {
            is_new = false;
            WAITING.fetch_add(1, Ordering::Release);
        }
        polled
    })
    .await
}

/// Until so many more futures wait.
fn until_waits(count: usize) {
    while WAITING.load(Ordering::Acquire) < count {
        std::thread::sleep(Duration::from_millis(1));
    }
    WAITING.fetch_sub(count, Ordering::AcqRel);
}

/// A task that was handed a lock and does not take it; so many futures wait for that lock, polled by
/// these tasks.
fn say(task: &JoinHandle<()>, name: &str, waiting: usize, tasks: &[&JoinHandle<()>]) {
    let id = |task: &JoinHandle<()>| {
        let id = TaskId::default();
        id.learn(task);
        id.get()
    };
    let tasks: Vec<u64> = tasks.iter().map(|task| id(task)).collect();
    control::say(&format!(
        r#"{{"type":"kept","task_id":{},"name":"{name}","waiting":{waiting},"tasks":{tasks:?}}}"#,
        id(task)
    ));
}

/// What a future of a set does.
#[derive(Clone, Copy)]
enum Part {
    Sleeps,
    Locks,
    /// Waits to be notified.
    Hears,
}

async fn part(part: Part, lock: Arc<Mutex<u64>>, notify: Arc<Notify>) {
    match part {
        Part::Sleeps => sleep(SOON).await,
        Part::Locks => *waits(lock.lock()).await += 1,
        Part::Hears => waits(notify.notified()).await,
    }
}

/// As in the bug reports: what is done with the first that is ready wants the lock which another one
/// waits for. Before that one and after it others are woken.
async fn keeps_in_a_loop(lock: Arc<Mutex<u64>>, notify: [Arc<Notify>; 2]) {
    let [before, after] = notify;
    let mut set: FuturesUnordered<_> = [
        (Part::Hears, before.clone()),
        (Part::Locks, before.clone()),
        (Part::Hears, after),
        (Part::Sleeps, before),
    ]
    .into_iter()
    .map(|(what, notify)| part(what, lock.clone(), notify))
    .collect();
    while let Some(()) = set.next().await {
        *waits(lock.lock()).await += 1;
    }
}

/// The same in one of many futures that are joined.
async fn keeps_in_one_of_many(lock: Arc<Mutex<u64>>, notify: [Arc<Notify>; 2]) {
    let all = (0..MANY).map(|number| {
        let (lock, notify) = (lock.clone(), notify.clone());
        async move {
            match number {
                7 => keeps_in_a_loop(lock, notify).await,
                _ => pending().await,
            }
        }
    });
    join_all(all).await;
}

async fn writes(lock: Arc<RwLock<u64>>) {
    *waits(lock.write()).await += 1;
}

/// Polls the set in a branch of `select!`, and waits for something else in the other.
async fn keeps_in_a_branch(lock: Arc<RwLock<u64>>) {
    let mut set: FuturesUnordered<_> = [writes(lock)].into_iter().collect();
    tokio::select! {
        done = set.next() => assert!(done.is_some()),
        () = sleep(SOON) => pending().await,
    }
}

/// One of many futures reads.
async fn joins(lock: Arc<RwLock<u64>>) {
    let all = (0..MANY).map(|number| {
        let lock = lock.clone();
        async move {
            match number {
                20 => std::hint::black_box(*waits(lock.read()).await),
                _ => pending().await,
            }
        }
    });
    join_all(all).await;
}

/// Boxed futures, behind a buffer.
async fn keeps_behind_a_buffer(semaphore: Arc<Semaphore>) {
    let all = iter(0..8).map(|number| -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let semaphore = semaphore.clone();
        match number {
            0 => Box::pin(sleep(SOON)),
            5 => Box::pin(async move { drop(waits(semaphore.acquire_many(2)).await) }),
            _ => Box::pin(pending()),
        }
    });
    let mut all = pin!(all.buffer_unordered(6));
    while all.next().await.is_some() {
        pending().await
    }
}

async fn acquires(semaphore: Arc<Semaphore>) {
    drop(waits(semaphore.acquire()).await);
}

/// Large futures.
async fn keeps_for_each(sender: mpsc::Sender<u64>) {
    let each = iter(0..3_u8).for_each_concurrent(None, |number| {
        let sender = sender.clone();
        async move {
            let large = [number; 6_000];
            match number {
                1 => drop(waits(sender.reserve()).await),
                _ => pending().await,
            }
            std::hint::black_box(large);
        }
    });
    let mut each = pin!(each);
    tokio::select! {
        () = &mut each => {}
        () = sleep(SOON) => pending().await,
    }
}

async fn sends(sender: mpsc::Sender<u64>) {
    let _ = waits(sender.send(1)).await;
}

/// Holds a lock over its await: those who wait for it are not handed it.
async fn holds(lock: Arc<Mutex<u64>>) {
    let guard = waits(lock.lock()).await;
    pending::<()>().await;
    drop(guard);
}

/// All wait in one set, which is polled all the time.
async fn waits_in_a_set(lock: Arc<Mutex<u64>>) {
    let mut set: FuturesUnordered<_> = (0..3)
        .map(|_| async { *lock.lock().await += 1 })
        .collect();
    loop {
        tokio::select! {
            done = set.next() => assert!(done.is_some()),
            () = sleep(Duration::from_millis(1)) => {}
        }
    }
}

/// Futures of one set take turns with those of others, and come back.
async fn takes_turns(lock: Arc<Mutex<u64>>) {
    let turn = || async {
        let mut guard = lock.lock().await;
        *guard += 1;
        sleep(Duration::from_millis(1)).await;
    };
    let mut set: FuturesUnordered<_> = (0..4).map(|_| turn()).collect();
    while let Some(()) = set.next().await {
        set.push(turn());
    }
}

/// A future of a set is about to be handed a lock and drops what waits for it; it keeps nothing,
/// though its memory looks as if it did.
async fn changes_its_mind(lock: Arc<Mutex<u64>>, other: Arc<Notify>) {
    let one = || async {
        {
            let mut first = pin!(waits(lock.lock()));
            tokio::select! {
                biased;
                () = other.notified() => {}
                guard = &mut first => drop(guard),
            }
        }
        pending::<()>().await;
    };
    let mut set: FuturesUnordered<_> = [one()].into_iter().collect();
    set.next().await;
}

fn kept_mutex(runtime: &Runtime, is_one_of_many: bool) {
    let mutex = Arc::new(Mutex::new(0));
    let held = runtime.block_on(mutex.clone().lock_owned());
    let [before, after] = [(); 2].map(|()| Arc::new(Notify::new()));
    let notify = [before.clone(), after.clone()];
    let (task, name) = match is_one_of_many {
        true => {
            let future = keeps_in_one_of_many(mutex.clone(), notify);
            (runtime.spawn(future), "keeps_in_one_of_many")
        }
        false => {
            let future = keeps_in_a_loop(mutex.clone(), notify);
            (runtime.spawn(future), "keeps_in_a_loop")
        }
    };
    until_waits(4);
    let other = runtime.spawn(holds(mutex));
    until_waits(1);
    before.notify_one();
    drop(held);
    after.notify_one();
    say(&task, name, 2, &[&task, &other]);
}

fn kept(runtime: &Runtime) {
    kept_mutex(runtime, false);
    kept_mutex(runtime, true);

    let rwlock = Arc::new(RwLock::new(0));
    let held = runtime.block_on(rwlock.clone().read_owned());
    let task = runtime.spawn(keeps_in_a_branch(rwlock.clone()));
    until_waits(1);
    let others = [(); 2].map(|()| runtime.spawn(joins(rwlock.clone())));
    until_waits(2);
    std::thread::sleep(10 * SOON);
    drop(held);
    say(&task, "keeps_in_a_branch", 2, &[&others[0], &others[1]]);

    let semaphore = Arc::new(Semaphore::new(2));
    let held = runtime.block_on(semaphore.clone().acquire_owned());
    let task = runtime.spawn(keeps_behind_a_buffer(semaphore.clone()));
    until_waits(1);
    let others = [(); 2].map(|()| runtime.spawn(acquires(semaphore.clone())));
    until_waits(2);
    std::thread::sleep(10 * SOON);
    drop(held);
    say(&task, "keeps_behind_a_buffer", 2, &[&others[0], &others[1]]);

    let (sender, mut receiver) = mpsc::channel(1);
    runtime.block_on(sender.send(0)).expect("a place");
    let task = runtime.spawn(keeps_for_each(sender.clone()));
    until_waits(1);
    let other = runtime.spawn(sends(sender));
    until_waits(1);
    std::thread::sleep(10 * SOON);
    runtime.block_on(receiver.recv()).expect("a value");
    std::mem::forget(receiver);
    say(&task, "keeps_for_each", 1, &[&other]);
}

fn in_vain(runtime: &Runtime) {
    let held = Arc::new(Mutex::new(0));
    std::mem::forget(runtime.block_on(held.clone().lock_owned()));
    for _ in 0..3 {
        drop(runtime.spawn(waits_in_a_set(held.clone())));
    }
    let shared = Arc::new(Mutex::new(0));
    for _ in 0..4 {
        drop(runtime.spawn(takes_turns(shared.clone())));
    }
    let (changed, other) = (Arc::new(Mutex::new(0)), Arc::new(Notify::new()));
    let first = runtime.block_on(changed.clone().lock_owned());
    drop(runtime.spawn(changes_its_mind(changed.clone(), other.clone())));
    until_waits(1);
    for _ in 0..2 {
        drop(runtime.spawn(holds(changed.clone())));
        until_waits(1);
    }
    // Both are ready when it is polled next.
    runtime.block_on(async move {
        drop(first);
        other.notify_one();
    });
}

fn main() {
    Options::parse(&["sets"]);
    control::listen();
    let runtime = targets::runtime::multi_thread(2);
    kept(&runtime);
    in_vain(&runtime);
    control::ready();
    runtime.block_on(control::go());
    runtime.shutdown_background();
}
