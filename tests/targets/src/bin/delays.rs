//! Tasks that are woken from outside and from inside polls, that are spawned, and that wake
//! themselves, on a runtime of two workers (`multi`), of one thread (`current`) or in a `LocalSet`
//! (`local`). The program keeps its own record of how long each waited for its poll, of all tasks
//! that there are.

use std::collections::BTreeMap;
use std::future::{poll_fn, Future};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use targets::clock::monotonic_ns;
use targets::control::{self, Options};
use targets::runtime::{current_thread, multi_thread};
use targets::work::block_ms;
use tokio::task::{spawn_local, LocalSet};

static OVER: AtomicBool = AtomicBool::new(false);
/// Count, total and maximum by label.
static TRUTH: Mutex<BTreeMap<&str, (u64, u64, u64)>> = Mutex::new(BTreeMap::new());

fn note(label: &'static str, since_ns: u64, polled_ns: u64) {
    let ns = polled_ns.saturating_sub(since_ns);
    let mut truth = TRUTH.lock().expect("no panic");
    let (count, total_ns, max_ns) = truth.entry(label).or_default();
    (*count, *total_ns, *max_ns) = (*count + 1, *total_ns + ns, ns.max(*max_ns));
}

/// A task that can be woken, and when it was last.
#[derive(Clone, Default)]
struct Bell(Arc<(AtomicU64, Mutex<Option<Waker>>)>);

impl Bell {
    fn ring(&self) {
        let waker = self.0 .1.lock().expect("no panic").take();
        if let Some(waker) = waker {
            self.0 .0.store(monotonic_ns(), Ordering::Relaxed);
            waker.wake();
        }
    }

    /// Notes each wake; until the program is over.
    fn poll(&self, label: &'static str, polled_ns: u64, context: &mut Context<'_>) -> Poll<()> {
        let since_ns = self.0 .0.swap(0, Ordering::Relaxed);
        if since_ns != 0 {
            note(label, since_ns, polled_ns);
        }
        if OVER.load(Ordering::Relaxed) {
            return Poll::Ready(());
        }
        *self.0 .1.lock().expect("no panic") = Some(context.waker().clone());
        Poll::Pending
    }
}

/// The first poll is the spawned task's.
async fn ringed(label: &'static str, spawned_ns: u64, bell: Bell, work: impl Fn()) {
    let mut spawned_ns = spawned_ns;
    poll_fn(|context| {
        let now = monotonic_ns();
        let first = std::mem::take(&mut spawned_ns);
        if first != 0 {
            note("spawned", first, now);
        }
        let state = bell.poll(label, now, context);
        if first == 0 && state.is_pending() {
            work();
        }
        state
    })
    .await;
}

/// Woken by the poll of another task, which then goes on.
async fn late(spawned_ns: u64, bell: Bell) {
    ringed("late", spawned_ns, bell, || ()).await;
}

async fn blocker(spawned_ns: u64, own: Bell, late: Bell) {
    let work = || {
        late.ring();
        block_ms(100);
    };
    ringed("blocker", spawned_ns, own, work).await;
}

/// Wakes itself, twenty times.
async fn again(spawned_ns: u64) {
    let (mut since_ns, mut turns) = (spawned_ns, 0);
    poll_fn(|context| {
        let now = monotonic_ns();
        note(if turns == 0 { "spawned" } else { "again" }, since_ns, now);
        turns += 1;
        if turns > 20 {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        since_ns = monotonic_ns();
        Poll::Pending
    })
    .await;
}

/// Spawns tasks that wake themselves.
async fn parent(spawned_ns: u64, bell: Bell, spawn: fn(u64)) {
    ringed("parent", spawned_ns, bell, || spawn(monotonic_ns())).await;
}

/// What wakes the tasks from outside.
fn ring(bells: Vec<Bell>, rounds: u32) {
    for _ in 0..rounds {
        for bell in &bells {
            thread::sleep(Duration::from_millis(60));
            bell.ring();
        }
        thread::sleep(Duration::from_millis(130));
    }
    OVER.store(true, Ordering::Relaxed);
}

fn main() {
    let options = Options::parse(&["multi", "current", "local"]);
    control::listen();
    control::ready_to_go(&options);
    let bells: [Bell; 3] = Default::default();
    let [own, woken, children] = bells.clone();
    let outside = [children.clone(), own.clone()];
    let rounds = options.rounds;
    let ringing = thread::spawn(move || ring(outside.into(), rounds));
    let now = monotonic_ns;
    if options.scenario == "local" {
        let set = LocalSet::new();
        let tasks = async {
            let tasks = [
                spawn_local(late(now(), woken.clone())),
                spawn_local(blocker(now(), own, woken)),
                spawn_local(parent(now(), children, |ns| drop(spawn_local(again(ns))))),
            ];
            until_over(&bells, tasks).await;
        };
        set.block_on(&current_thread(), tasks);
    } else {
        let runtime = match options.scenario.as_str() {
            "multi" => multi_thread(2),
            _ => current_thread(),
        };
        runtime.block_on(async {
            let tasks = [
                tokio::spawn(late(now(), woken.clone())),
                tokio::spawn(blocker(now(), own, woken)),
                tokio::spawn(parent(now(), children, |ns| drop(tokio::spawn(again(ns))))),
            ];
            until_over(&bells, tasks).await;
        });
    }
    ringing.join().expect("no panic");
    let truth = TRUTH.lock().expect("no panic");
    let of = truth.iter().map(|(label, (count, total_ns, max_ns))| {
        format!(r#""{label}":[{count},{total_ns},{max_ns}]"#)
    });
    let of: Vec<String> = of.collect();
    control::say(&format!(r#"{{"type":"delays","of":{{{}}}}}"#, of.join(",")));
    control::finish(&options);
}

/// Ends the tasks once the program is over.
async fn until_over(bells: &[Bell], tasks: impl IntoIterator<Item = impl Future>) {
    while !OVER.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for bell in bells {
        bell.ring();
    }
    for task in tasks {
        pin!(task).await;
    }
}
