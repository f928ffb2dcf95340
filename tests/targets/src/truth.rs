//! The program's own record of its polls, kept in memory and printed as JSON lines.

use std::cell::Cell;
use std::fmt::{Debug, Write as _};
use std::future::Future;
use std::io::Write as _;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::task::{JoinHandle, LocalSet};

use crate::clock::{monotonic_ns, preemptions, thread_cpu_ns, thread_id};

/// Records kept for each thread. More are counted, not kept.
const CAPACITY: usize = 1 << 18;

/// What kind of call was timed.
#[derive(Clone, Copy)]
pub enum Kind {
    /// A poll of a task.
    Async,
    /// A poll of a future given to `block_on`.
    Root,
    /// A closure on the blocking pool.
    Blocking,
    /// A part of a poll: the future itself is not wrapped.
    Span,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Async => "async",
            Kind::Root => "root",
            Kind::Blocking => "blocking",
            Kind::Span => "span",
        }
    }
}

/// A task's id, filled in once it has been spawned. Ids start at 1.
#[derive(Clone, Default)]
pub struct TaskId(Arc<AtomicU64>);

impl TaskId {
    /// Learns the id from a handle's debug output, which has it in every Tokio version, unlike
    /// `task::id()`.
    pub fn learn(&self, handle: &impl Debug) {
        let text = format!("{handle:?}");
        let digits: String = text
            .chars()
            .skip_while(|c| !c.is_ascii_digit())
            .take_while(char::is_ascii_digit)
            .collect();
        self.0.store(digits.parse().unwrap_or(0), Ordering::Relaxed);
    }

    /// The id; 0 when it is not known.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

struct Record {
    label: &'static str,
    kind: Kind,
    id: TaskId,
    tid: i32,
    start_ns: u64,
    end_ns: u64,
    cpu_ns: u64,
    preempted_at_start: u64,
    preempted_at_end: u64,
    ready: bool,
    block_in_place: bool,
    asked_ns: u64,
}

impl Record {
    fn line(&self) -> String {
        let mut line = format!(
            r#"{{"type":"poll","label":"{}","kind":"{}""#,
            self.label,
            self.kind.name()
        );
        let _ = match self.id.get() {
            0 => write!(line, r#","task_id":null"#),
            id => write!(line, r#","task_id":{id}"#),
        };
        let _ = write!(
            line,
            r#","tid":{},"start_ns":{},"end_ns":{},"cpu_ns":{},"preempted_at_start":{},"preempted_at_end":{},"ready":{},"block_in_place":{},"asked_ns":{}}}"#,
            self.tid,
            self.start_ns,
            self.end_ns,
            self.cpu_ns,
            self.preempted_at_start,
            self.preempted_at_end,
            self.ready,
            self.block_in_place,
            self.asked_ns
        );
        line
    }
}

#[derive(Default)]
struct Buffer {
    records: Vec<Record>,
    dropped: u64,
}

static BUFFERS: Mutex<Vec<Arc<Mutex<Buffer>>>> = Mutex::new(Vec::new());

thread_local! {
    static BUFFER: Arc<Mutex<Buffer>> = {
        let buffer = Arc::new(Mutex::new(Buffer { records: Vec::with_capacity(1024), dropped: 0 }));
        lock(&BUFFERS).push(buffer.clone());
        buffer
    };
    static BLOCKED_IN_PLACE: Cell<bool> = const { Cell::new(false) };
    static ASKED_NS: Cell<u64> = const { Cell::new(0) };
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes that the thread is about to wait or compute for so long. What its poll takes beyond that,
/// it waits for a CPU.
pub fn ask_ms(ms: u64) {
    ASKED_NS.with(|asked| asked.set(asked.get() + ms * 1_000_000));
}

/// A call being timed; recorded when dropped, also by a panic.
pub struct Span {
    label: &'static str,
    kind: Kind,
    id: TaskId,
    ready: bool,
    outer_block_in_place: bool,
    start_ns: u64,
    start_cpu_ns: u64,
    preempted_at_start: u64,
    asked_at_start_ns: u64,
}

impl Span {
    /// The caller reads the clock first of all, so that the record's own cost lies inside what it
    /// tells.
    fn open(start_ns: u64, label: &'static str, kind: Kind, id: TaskId) -> Self {
        Span {
            label,
            kind,
            id,
            ready: false,
            outer_block_in_place: BLOCKED_IN_PLACE.with(|flag| flag.replace(false)),
            start_ns,
            start_cpu_ns: thread_cpu_ns(),
            preempted_at_start: preemptions(),
            asked_at_start_ns: ASKED_NS.with(Cell::get),
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        let preempted_at_end = preemptions();
        let cpu_ns = thread_cpu_ns() - self.start_cpu_ns;
        let block_in_place = BLOCKED_IN_PLACE.with(|flag| flag.replace(self.outer_block_in_place));
        BUFFER.with(|buffer| {
            let mut buffer = lock(buffer);
            if buffer.records.len() >= CAPACITY {
                buffer.dropped += 1;
                return;
            }
            let index = buffer.records.len();
            buffer.records.push(Record {
                label: self.label,
                kind: self.kind,
                id: self.id.clone(),
                tid: thread_id(),
                start_ns: self.start_ns,
                end_ns: 0,
                cpu_ns,
                preempted_at_start: self.preempted_at_start,
                preempted_at_end,
                ready: self.ready,
                block_in_place,
                asked_ns: ASKED_NS.with(Cell::get) - self.asked_at_start_ns,
            });
            // Last of all, for the same reason.
            buffer.records[index].end_ns = monotonic_ns();
        });
    }
}

/// Times a part of a poll.
pub fn span(label: &'static str) -> Span {
    Span::open(monotonic_ns(), label, Kind::Span, TaskId::default())
}

/// Notes how often the thread has been preempted so far: between its last poll and its end, or
/// before its first.
pub fn mark() {
    drop(span("mark"));
}

/// A future that records each of its own polls.
pub struct Timed<F> {
    label: &'static str,
    kind: Kind,
    id: TaskId,
    future: F,
}

impl<F: Future> Timed<F> {
    pub fn new(label: &'static str, kind: Kind, future: F) -> Self {
        Timed {
            label,
            kind,
            id: TaskId::default(),
            future,
        }
    }

    pub fn id(&self) -> TaskId {
        self.id.clone()
    }
}

impl<F: Future> Future for Timed<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let start_ns = monotonic_ns();
        // SAFETY: `future` is never moved out of the pinned `Timed`, which has no `Drop` and is
        // `Unpin` only by its field.
        let (label, kind, id, future) = unsafe {
            let this = self.get_unchecked_mut();
            (
                this.label,
                this.kind,
                this.id.clone(),
                Pin::new_unchecked(&mut this.future),
            )
        };
        let mut span = Span::open(start_ns, label, kind, id);
        let result = future.poll(cx);
        span.ready = result.is_ready();
        result
    }
}

/// `tokio::spawn`, with truth.
pub fn spawn<F>(label: &'static str, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Debug + Send + 'static,
{
    let timed = Timed::new(label, Kind::Async, future);
    let id = timed.id();
    let handle = tokio::spawn(timed);
    id.learn(&handle);
    handle
}

/// A task with very many polls of two microseconds until `end`. A poll is recorded only if it took
/// 100 us or more: something came between, for it waits for nothing.
pub fn spawn_brief(label: &'static str, end: Instant) -> JoinHandle<()> {
    let id = TaskId::default();
    let handle = tokio::spawn(Brief {
        label,
        id: id.clone(),
        end,
    });
    id.learn(&handle);
    handle
}

struct Brief {
    label: &'static str,
    id: TaskId,
    end: Instant,
}

impl Future for Brief {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        const BRIEF_NS: u64 = 2_000;
        const LONG_NS: u64 = 100_000;
        let start_ns = monotonic_ns();
        cx.waker().wake_by_ref();
        let mut ns = 0;
        while ns < BRIEF_NS {
            ns = monotonic_ns() - start_ns;
        }
        if ns >= LONG_NS {
            self.keep(start_ns, start_ns + ns);
        }
        if Instant::now() >= self.end {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

impl Brief {
    #[cold]
    fn keep(&self, start_ns: u64, end_ns: u64) {
        let record = Record {
            label: self.label,
            kind: Kind::Async,
            id: self.id.clone(),
            tid: thread_id(),
            start_ns,
            end_ns,
            cpu_ns: 0,
            preempted_at_start: 0,
            preempted_at_end: 0,
            ready: false,
            block_in_place: false,
            asked_ns: 0,
        };
        BUFFER.with(|buffer| lock(buffer).records.push(record));
    }
}

/// `LocalSet::spawn_local`, with truth.
pub fn spawn_local<F>(set: &LocalSet, label: &'static str, future: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
    F::Output: Debug + 'static,
{
    let timed = Timed::new(label, Kind::Async, future);
    let id = timed.id();
    let handle = set.spawn_local(timed);
    id.learn(&handle);
    handle
}

/// `tokio::task::spawn_blocking`, with truth.
pub fn spawn_blocking<R: Debug + Send + 'static>(
    label: &'static str,
    work: impl FnOnce() -> R + Send + 'static,
) -> JoinHandle<R> {
    let id = TaskId::default();
    let inner = id.clone();
    let handle = tokio::task::spawn_blocking(move || {
        let mut span = Span::open(monotonic_ns(), label, Kind::Blocking, inner);
        let result = work();
        span.ready = true;
        result
    });
    id.learn(&handle);
    handle
}

/// `tokio::task::block_in_place`, noted in the record of the poll around it.
pub fn block_in_place<R>(work: impl FnOnce() -> R) -> R {
    BLOCKED_IN_PLACE.with(|flag| flag.set(true));
    tokio::task::block_in_place(work)
}

/// Prints the records kept so far, by start, and forgets them. Ends with a line of type `end`.
pub fn dump() {
    let mut records = Vec::new();
    let mut dropped = 0;
    for buffer in lock(&BUFFERS).iter() {
        let mut buffer = lock(buffer);
        records.append(&mut buffer.records);
        dropped += std::mem::take(&mut buffer.dropped);
    }
    records.sort_by_key(|record| record.start_ns);
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for record in &records {
        let _ = writeln!(out, "{}", record.line());
    }
    let _ = writeln!(
        out,
        r#"{{"type":"end","polls":{},"dropped":{dropped}}}"#,
        records.len()
    );
    let _ = out.flush();
}
