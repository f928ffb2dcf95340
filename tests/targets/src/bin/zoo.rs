//! Many types of tasks, all alive until told to stop, and what each of them is.
//!
//! Prints one line for each task: its type's name as the compiler tells it, its size, and the line
//! of its definition, which a comment `// @label` on the line before marks.

use std::any::type_name;
use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use targets::control::{self, Options};
use targets::source::line_of;
use targets::truth::TaskId;
use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinSet, LocalSet};

const SOURCE: &str = include_str!("zoo.rs");

static STOP: AtomicBool = AtomicBool::new(false);

/// What a task is, as known here and now.
struct Zoo {
    lines: Vec<String>,
}

impl Zoo {
    /// `label` says which definition is the outermost async fn or block of the task; none is marked
    /// for other futures.
    fn add<F>(&mut self, label: &str, kind: &str, runtime: &str, handle: &impl Debug) {
        let id = TaskId::default();
        id.learn(handle);
        let line = line_of(SOURCE, label).map_or("null".to_owned(), |line| line.to_string());
        let name = type_name::<F>().replace('"', "'");
        self.lines.push(format!(
            r#"{{"type":"task","label":"{label}","kind":"{kind}","runtime":"{runtime}","task_id":{},"type_name":"{name}","size":{},"file":"src/bin/zoo.rs","line":{line}}}"#,
            id.get(),
            std::mem::size_of::<F>(),
        ));
    }

    fn spawn<F>(&mut self, runtime: &Runtime, flavor: &str, label: &str, future: F)
    where
        F: Future + Send + 'static,
        F::Output: Debug + Send + 'static,
    {
        let handle = runtime.spawn(future);
        self.add::<F>(label, "async", flavor, &handle);
    }

    fn spawn_local<F>(&mut self, set: &LocalSet, label: &str, future: F)
    where
        F: Future + 'static,
        F::Output: Debug + 'static,
    {
        let handle = set.spawn_local(future);
        self.add::<F>(label, "async", "local", &handle);
    }

    fn join<F>(&mut self, set: &mut JoinSet<F::Output>, runtime: &Runtime, label: &str, future: F)
    where
        F: Future + Send + 'static,
        F::Output: Debug + Send + 'static,
    {
        let handle = set.spawn_on(future, runtime.handle());
        self.add::<F>(label, "async", "multi_thread", &handle);
    }

    fn spawn_blocking<F>(&mut self, runtime: &Runtime, label: &str, work: F)
    where
        F: FnOnce() -> u64 + Send + 'static,
    {
        let handle = runtime.spawn_blocking(work);
        self.add::<F>(label, "blocking", "pool", &handle);
    }
}

/// One turn of life: pending for a while.
async fn turn() -> bool {
    tokio::time::sleep(Duration::from_millis(5)).await;
    !STOP.load(Ordering::Relaxed)
}

// @plain
async fn plain() -> u64 {
    let mut turns = 0;
    while turn().await {
        turns += 1;
    }
    turns
}

// @arguments
async fn arguments(name: String, mut numbers: Vec<u64>) -> usize {
    while turn().await {
        numbers.push(name.len() as u64);
        numbers.truncate(8);
    }
    numbers.len() + name.len()
}

// @generic
async fn generic<T: Debug + Send>(value: T) -> String {
    while turn().await {}
    format!("{value:?}")
}

// @leaf
async fn leaf(depth: u32) -> u32 {
    turn().await;
    depth + 1
}

// @middle
async fn middle(depth: u32) -> u32 {
    leaf(depth).await + leaf(depth + 1).await
}

// @parent
async fn parent() -> u32 {
    let mut sum = 0_u32;
    while turn().await {
        sum = sum.wrapping_add(middle(sum).await);
    }
    sum
}

// @twin_a
async fn twin_a() -> u64 {
    while turn().await {}
    7
}

// @twin_b
async fn twin_b() -> u64 {
    while turn().await {}
    7
}

// @erased
async fn erased(seed: u64) -> u64 {
    let mut value = seed;
    while turn().await {
        value = value.rotate_left(3);
    }
    value
}

// @never
async fn never() {
    loop {
        turn().await;
    }
}

// @fallible
async fn fallible(limit: u64) -> Result<u64, String> {
    let mut turns = 0;
    while turn().await {
        turns += 1;
        if turns > limit {
            return Err(format!("{turns} turns"));
        }
    }
    Ok(turns)
}

// @in_place
async fn in_place() -> u64 {
    let mut sum = 0;
    while turn().await {
        sum += tokio::task::block_in_place(|| std::hint::black_box(1));
    }
    sum
}

mod deep {
    pub mod deeper {
        pub struct Server {
            pub served: u64,
        }

        impl Server {
            // @method
            pub async fn serve(mut self) -> u64 {
                while crate::turn().await {
                    self.served += 1;
                }
                self.served
            }
        }
    }
}

/// Two async blocks in one function.
fn blocks() -> (impl Future<Output = u32>, impl Future<Output = u64>) {
    // @block_a
    let a = async {
        while turn().await {}
        1
    };
    // @block_b
    let b = async {
        let mut turns = 0_u64;
        while turn().await {
            turns += 2;
        }
        turns
    };
    (a, b)
}

/// A future written by hand: it has no definition to find.
struct Countdown {
    timer: Pin<Box<tokio::time::Sleep>>,
    polls: u64,
}

impl Future for Countdown {
    type Output = u64;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<u64> {
        self.polls += 1;
        match self.timer.as_mut().poll(cx) {
            Poll::Ready(()) if STOP.load(Ordering::Relaxed) => Poll::Ready(self.polls),
            Poll::Ready(()) => {
                let next = tokio::time::Instant::now() + Duration::from_millis(5);
                self.timer.as_mut().reset(next);
                self.timer.as_mut().poll(cx).map(|()| self.polls)
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

/// A future with a large alignment moves the task's own fields.
#[repr(align(256))]
struct Aligned(Countdown);

impl Future for Aligned {
    type Output = u64;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<u64> {
        Pin::new(&mut self.0).poll(cx)
    }
}

fn countdown() -> Countdown {
    Countdown {
        timer: Box::pin(tokio::time::sleep(Duration::from_millis(5))),
        polls: 0,
    }
}

fn boxed(
    future: impl Future<Output = u64> + Send + 'static,
) -> Pin<Box<dyn Future<Output = u64> + Send>> {
    Box::pin(future)
}

fn populate(zoo: &mut Zoo, runtime: &Runtime, flavor: &str) {
    let _inside = runtime.enter();
    zoo.spawn(runtime, flavor, "plain", plain());
    zoo.spawn(
        runtime,
        flavor,
        "arguments",
        arguments("name".to_owned(), vec![1, 2]),
    );
    zoo.spawn(runtime, flavor, "generic", generic(5_u32));
    zoo.spawn(runtime, flavor, "generic", generic("five".to_owned()));
    zoo.spawn(runtime, flavor, "parent", parent());
    zoo.spawn(runtime, flavor, "twin_a", twin_a());
    zoo.spawn(runtime, flavor, "twin_b", twin_b());
    zoo.spawn(runtime, flavor, "never", never());
    zoo.spawn(runtime, flavor, "fallible", fallible(1 << 40));
    zoo.spawn(
        runtime,
        flavor,
        "method",
        deep::deeper::Server { served: 0 }.serve(),
    );
    let (a, b) = blocks();
    zoo.spawn(runtime, flavor, "block_a", a);
    zoo.spawn(runtime, flavor, "block_b", b);
    zoo.spawn(runtime, flavor, "erased", boxed(erased(3)));
    zoo.spawn(runtime, flavor, "countdown", countdown());
    zoo.spawn(runtime, flavor, "aligned", Aligned(countdown()));
    zoo.spawn_blocking(runtime, "pool_closure", || {
        while !STOP.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(5));
        }
        1
    });
}

/// Tasks of a `LocalSet`, on a thread of its own; returns once it has spawned them.
fn local_zoo() -> (Zoo, std::thread::JoinHandle<()>) {
    let (sender, receiver) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime");
        let set = LocalSet::new();
        let mut zoo = Zoo { lines: Vec::new() };
        let shared = std::rc::Rc::new(5);
        zoo.spawn_local(&set, "plain", plain());
        zoo.spawn_local(
            &set,
            "local_block",
            // @local_block
            async move {
                while turn().await {}
                *shared
            },
        );
        sender.send(zoo).expect("the main thread listens");
        runtime.block_on(set.run_until(plain()));
    });
    (receiver.recv().expect("the local set is up"), thread)
}

fn main() {
    let _ = Options::parse(&["zoo"]);
    control::listen();
    let multi = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .expect("a runtime");
    let current = Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let (mut zoo, local) = local_zoo();
    populate(&mut zoo, &multi, "multi_thread");
    populate(&mut zoo, &current, "current_thread");
    zoo.spawn(&multi, "multi_thread", "in_place", in_place());
    let mut set = JoinSet::new();
    for seed in 0..2 {
        zoo.join(&mut set, &multi, "erased", erased(seed));
    }
    for line in &zoo.lines {
        control::say(line);
    }
    let children = ["leaf", "middle"].map(|label| (label, line_of(SOURCE, label).expect("marked")));
    for (label, line) in children {
        control::say(&format!(
            r#"{{"type":"child","label":"{label}","file":"src/bin/zoo.rs","line":{line}}}"#
        ));
    }
    control::ready();
    // The current_thread runtime lives only while somebody blocks on it.
    current.block_on(control::go());
    STOP.store(true, Ordering::Relaxed);
    multi.block_on(async { while set.join_next().await.is_some() {} });
    local.join().expect("no panic");
    current.shutdown_background();
    multi.shutdown_background();
}
