//! The thread that empties the ring buffers, whatever else loopprobe is busy with.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use aya::maps::{MapData, RingBuf};
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
/// session.
pub(super) struct Rings {
    /// Records of polls and of the process.
    pub events: RingBuf<MapData>,
    /// Stacks.
    pub stacks: RingBuf<MapData>,
}

/// Takes what the kernel side sends, at once, and holds it until somebody looks at it.
pub(super) struct Drain {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Rings>>,
    /// While there is no thread.
    rings: Option<Rings>,
}

impl std::fmt::Debug for Drain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Drain").finish_non_exhaustive()
    }
}

struct Shared {
    inbox: Mutex<Inbox>,
    /// Readable when somebody should look.
    ready: EventFd,
    closing: AtomicBool,
    /// Wakes the thread for its end.
    close: EventFd,
}

impl Drain {
    /// Starts the thread. It has what privileges the caller has now: [`Self::restart`] once they
    /// are fewer.
    ///
    /// # Errors
    ///
    /// If the process has no descriptor or thread left.
    pub(super) fn start(rings: Rings) -> io::Result<Self> {
        let event = || {
            let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
            EventFd::from_value_and_flags(0, flags)
        };
        let mut drain = Self {
            shared: Arc::new(Shared {
                inbox: Mutex::default(),
                ready: event()?,
                closing: AtomicBool::new(false),
                close: event()?,
            }),
            thread: None,
            rings: Some(rings),
        };
        drain.run()?;
        Ok(drain)
    }

    fn run(&mut self) -> io::Result<()> {
        let Some(rings) = self.rings.take() else {
            return Ok(());
        };
        self.shared.closing.store(false, Ordering::Release);
        let shared = Arc::clone(&self.shared);
        let thread = thread::Builder::new().name("loopprobe-drain".into());
        self.thread = Some(thread.spawn(move || shared.drain(rings))?);
        Ok(())
    }

    /// Ends the thread and starts another one, with what privileges the caller has now.
    ///
    /// # Errors
    ///
    /// If the process has no thread left.
    pub(super) fn restart(&mut self) -> io::Result<()> {
        self.close();
        self.run()
    }

    /// Ends the thread. All that was sent before can be taken then.
    pub(super) fn close(&mut self) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        self.shared.closing.store(true, Ordering::Release);
        // It fails only if it has been written to 2^64 - 2 times.
        let _ = self.shared.close.write(1);
        self.rings = thread.join().ok();
        let _ = self.shared.close.read();
    }

    /// The oldest record that has not been taken yet.
    pub(super) fn next(&self) -> Option<Box<[u8]>> {
        self.shared.inbox().pop()
    }

    /// How many records can be taken.
    pub(super) fn len(&self) -> usize {
        self.shared.inbox().len()
    }

    /// What there was no room for.
    pub(super) fn lost(&self) -> InboxLost {
        self.shared.inbox().lost
    }

    /// Readable when there is something to look at.
    pub(super) fn ready(&self) -> BorrowedFd<'_> {
        self.shared.ready.as_fd()
    }

    /// From here on what comes anew makes it readable.
    pub(super) fn looked(&self) {
        // It fails if it has not been written to.
        let _ = self.shared.ready.read();
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn inbox(&self) -> std::sync::MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn drain(&self, mut rings: Rings) -> Rings {
        let mut records = Vec::new();
        loop {
            self.wait(&rings);
            let closing = self.closing.load(Ordering::Acquire);
            self.take(&mut rings, &mut records);
            if closing {
                let end = Instant::now() + LAST;
                while !records.is_empty() && Instant::now() < end {
                    thread::yield_now();
                    self.take(&mut rings, &mut records);
                }
                self.deliver(Vec::new(), &mut records);
                return rings;
            }
        }
    }

    /// Waits for a record of a poll, or long enough.
    fn wait(&self, rings: &Rings) {
        let mut fds = [
            PollFd::new(self.close.as_fd(), PollFlags::POLLIN),
            PollFd::new(rings.events.as_fd(), PollFlags::POLLIN),
            PollFd::new(rings.stacks.as_fd(), PollFlags::POLLIN),
        ];
        let _ = poll(&mut fds, PollTimeout::from(LOOK));
        let _ = poll(&mut fds[..1], PollTimeout::from(GATHER.as_millis() as u16));
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
        let is_urgent = !records.is_empty() || stacks.iter().any(Item::is_urgent);
        let mut inbox = self.inbox();
        for item in stacks.into_iter().chain(records.drain(..)) {
            inbox.push(item);
        }
        if is_urgent || inbox.stack_bytes() > ENOUGH {
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
