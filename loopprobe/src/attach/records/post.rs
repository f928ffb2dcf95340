//! The thread that empties a load's ring buffers, whatever else loopprobe is busy with, and hands
//! each record to its target's inbox.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use aya::maps::{MapData, RingBuf};
use loopprobe_common::target::MAX_TARGETS;
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::eventfd::{EfdFlags, EventFd},
};

use super::inbox::{Inbox, InboxLost, Item};

/// How long records gather before they are taken, so that a storm of them wakes nobody a record.
const GATHER: Duration = Duration::from_millis(1);
/// How long samples may lie in their ring buffer when nothing else comes: they wake nobody
/// themselves.
const LOOK: u16 = 100; // ms
/// With how many bytes of stacks they are looked at before the next record of a poll.
const ENOUGH: usize = 1 << 20;
/// How long the end waits for a stack that is just being written.
const LAST: Duration = Duration::from_secs(1);

/// The ring buffers. Programs that are loaded later refer to them, so they live as long as the
/// load.
pub(in crate::attach) struct Rings {
    /// Records of polls and of the process.
    pub(in crate::attach) events: RingBuf<MapData>,
    /// Stacks.
    pub(in crate::attach) stacks: RingBuf<MapData>,
}

/// Takes what the kernel side sends, at once.
pub(in crate::attach) struct Post {
    shared: Arc<Shared>,
    worker: Mutex<Worker>,
}

#[derive(Default)]
struct Worker {
    thread: Option<JoinHandle<Rings>>,
    /// While there is no thread.
    rings: Option<Rings>,
}

struct Shared {
    /// By target.
    boxes: Mutex<Vec<Option<Arc<PostBox>>>>,
    closing: AtomicBool,
    flushed: Flushed,
    /// Wakes the thread for its end, or for a flush.
    wake: EventFd,
}

/// How often somebody has asked for all that was sent before, and has got it.
#[derive(Default)]
struct Flushed {
    counts: Mutex<(u64, u64)>,
    done: Condvar,
}

/// A target's records.
#[derive(Debug)]
struct PostBox {
    inbox: Mutex<Inbox>,
    /// Readable when somebody should look.
    ready: EventFd,
}

/// The records of one target.
pub(crate) struct Drain {
    post: Arc<Post>,
    own: Arc<PostBox>,
}

impl std::fmt::Debug for Drain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Drain").finish_non_exhaustive()
    }
}

impl Post {
    /// Starts the thread. It has what privileges the caller has now: [`Drain::restart`] once they
    /// are fewer.
    ///
    /// # Errors
    ///
    /// If the process has no descriptor or thread left.
    pub(in crate::attach) fn start(rings: Rings) -> io::Result<Self> {
        let post = Self {
            shared: Arc::new(Shared {
                boxes: Mutex::new(vec![None; MAX_TARGETS as usize]),
                closing: AtomicBool::new(false),
                flushed: Flushed::default(),
                wake: event()?,
            }),
            worker: Mutex::new(Worker {
                thread: None,
                rings: Some(rings),
            }),
        };
        post.run(&mut lock(&post.worker))?;
        Ok(post)
    }

    /// The records of a target from now on.
    ///
    /// # Errors
    ///
    /// If the process has no descriptor left.
    pub(in crate::attach) fn drain(self: &Arc<Self>, target: u32) -> io::Result<Drain> {
        let own = Arc::new(PostBox {
            inbox: Mutex::default(),
            ready: event()?,
        });
        if let Some(place) = lock(&self.shared.boxes).get_mut(target as usize) {
            *place = Some(Arc::clone(&own));
        }
        Ok(Drain {
            post: Arc::clone(self),
            own,
        })
    }

    /// What comes for a target from now on is nobody's.
    pub(in crate::attach) fn leave(&self, target: u32) {
        if let Some(place) = lock(&self.shared.boxes).get_mut(target as usize) {
            *place = None;
        }
    }

    fn run(&self, worker: &mut Worker) -> io::Result<()> {
        let Some(rings) = worker.rings.take() else {
            return Ok(());
        };
        self.shared.closing.store(false, Ordering::Release);
        let shared = Arc::clone(&self.shared);
        let thread = thread::Builder::new().name("loopprobe-drain".into());
        worker.thread = Some(thread.spawn(move || shared.drain(rings))?);
        Ok(())
    }

    fn close(&self, worker: &mut Worker) {
        let Some(thread) = worker.thread.take() else {
            return;
        };
        self.shared.closing.store(true, Ordering::Release);
        self.shared.wake();
        worker.rings = thread.join().ok();
    }

    fn flush(&self) {
        // Nobody ends the thread meanwhile.
        let worker = lock(&self.worker);
        let is_at_work = || worker.thread.as_ref().is_some_and(|t| !t.is_finished());
        let flushed = &self.shared.flushed;
        let mut counts = lock(&flushed.counts);
        counts.0 += 1;
        let asked = counts.0;
        self.shared.wake();
        // However long a busy machine takes: what is not waited for would be missing.
        while counts.1 < asked && is_at_work() {
            let waited = flushed.done.wait_timeout(counts, LAST);
            counts = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Post {
    fn drop(&mut self) {
        self.close(&mut lock(&self.worker));
    }
}

impl Drain {
    /// Ends the thread and starts another one, with what privileges the caller has now.
    ///
    /// # Errors
    ///
    /// If the process has no thread left.
    pub(crate) fn restart(&self) -> io::Result<()> {
        let mut worker = lock(&self.post.worker);
        self.post.close(&mut worker);
        self.post.run(&mut worker)
    }

    /// Waits until all that was sent before can be taken.
    pub(crate) fn flush(&self) {
        self.post.flush();
    }

    /// The oldest record that has not been taken yet.
    pub(crate) fn next(&self) -> Option<Box<[u8]>> {
        lock(&self.own.inbox).pop()
    }

    /// How many records can be taken.
    pub(crate) fn len(&self) -> usize {
        lock(&self.own.inbox).len()
    }

    /// What there was no room for.
    pub(crate) fn lost(&self) -> InboxLost {
        lock(&self.own.inbox).lost
    }

    /// Readable when there is something to look at.
    pub(crate) fn ready(&self) -> BorrowedFd<'_> {
        self.own.ready.as_fd()
    }

    /// From here on what comes anew makes it readable.
    pub(crate) fn looked(&self) {
        // It fails if it has not been written to.
        let _ = self.own.ready.read();
    }
}

impl Shared {
    fn wake(&self) {
        // It fails only if it has been written to 2^64 - 2 times.
        let _ = self.wake.write(1);
    }

    fn drain(&self, mut rings: Rings) -> Rings {
        let mut records = Vec::new();
        loop {
            self.wait(&rings);
            let closing = self.closing.load(Ordering::Acquire);
            let (asked, answered) = *lock(&self.flushed.counts);
            self.take(&mut rings, &mut records);
            if closing || asked > answered {
                self.take_last(&mut rings, &mut records);
                lock(&self.flushed.counts).1 = asked;
                self.flushed.done.notify_all();
            }
            if closing {
                return rings;
            }
        }
    }

    /// Takes all that was sent before.
    fn take_last(&self, rings: &mut Rings, records: &mut Vec<Item>) {
        let end = Instant::now() + LAST;
        while !records.is_empty() && Instant::now() < end {
            thread::yield_now();
            self.take(rings, records);
        }
        self.deliver(Vec::new(), records);
    }

    /// Waits for a record of a poll, or long enough.
    fn wait(&self, rings: &Rings) {
        let mut fds = [
            PollFd::new(self.wake.as_fd(), PollFlags::POLLIN),
            PollFd::new(rings.events.as_fd(), PollFlags::POLLIN),
            PollFd::new(rings.stacks.as_fd(), PollFlags::POLLIN),
        ];
        let _ = poll(&mut fds, PollTimeout::from(LOOK));
        let _ = poll(&mut fds[..1], PollTimeout::from(GATHER.as_millis() as u16));
        // It fails if it has not been written to.
        let _ = self.wake.read();
    }

    /// Takes what is there. Records of polls stay in `records` until each stack that was sent
    /// before them has been taken.
    fn take(&self, rings: &mut Rings, records: &mut Vec<Item>) {
        while let Some(bytes) = rings.events.next() {
            records.push(Item::new(&bytes));
        }
        let mut stacks = Vec::new();
        while let Some(bytes) = rings.stacks.next() {
            stacks.push(Item::new(&bytes));
        }
        if is_empty(&rings.stacks) {
            self.deliver(stacks, records);
        } else {
            self.deliver(stacks, &mut Vec::new());
        }
    }

    fn deliver(&self, stacks: Vec<Item>, records: &mut Vec<Item>) {
        if stacks.is_empty() && records.is_empty() {
            return;
        }
        let mut items: Vec<Vec<Item>> = Vec::new();
        for item in stacks.into_iter().chain(records.drain(..)) {
            let target = item.target();
            if items.len() <= target {
                items.resize_with(target + 1, Vec::new);
            }
            items[target].push(item);
        }
        // What comes for a target that has left is of after its session's end.
        for (own, items) in lock(&self.boxes).iter().zip(items) {
            if let (Some(own), false) = (own, items.is_empty()) {
                own.deliver(items);
            }
        }
    }
}

impl PostBox {
    fn deliver(&self, items: Vec<Item>) {
        let is_urgent = items.iter().any(|item| item.is_urgent);
        let mut inbox = lock(&self.inbox);
        for item in items {
            inbox.push(item);
        }
        if is_urgent || inbox.stack_bytes > ENOUGH {
            // It fails only if it has been written to 2^64 - 2 times.
            let _ = self.ready.write(1);
        }
    }
}

/// Whether nothing is in a ring buffer, not even what is just being written. The buffer itself says
/// no more behind that.
fn is_empty(ring: &RingBuf<MapData>) -> bool {
    let mut fds = [PollFd::new(ring.as_fd(), PollFlags::POLLIN)];
    matches!(poll(&mut fds, PollTimeout::ZERO), Ok(0))
}

fn event() -> io::Result<EventFd> {
    let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
    Ok(EventFd::from_value_and_flags(0, flags)?)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
