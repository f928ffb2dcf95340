//! Placing and removing breakpoints in processes of their own.
//!
//! To place or remove a breakpoint the kernel first reads the page that it lies in, and while a
//! fatal signal is pending it refuses to (`fatal_signal_pending` in `__get_user_pages`,
//! `mm/gup.c`). A removal then gives up ("failed to unregister, leaking uprobe",
//! `kernel/events/uprobes.c`) and the breakpoint stays for as long as the target lives; so does
//! what a link has placed already when it cannot place the rest. A fatal signal is pending in a
//! thread that is inside bpf(2) or close(2) when its process is killed, or when another of its
//! threads exits. It is not pending while a process ends: who dies of a signal has taken it, and
//! the kernel drops those that come later.
//!
//! So breakpoints are placed by a child that what ends loopprobe does not reach, and removed by the
//! *death* of such a child.

use std::{
    io::{self, Read as _},
    os::{
        fd::{AsRawFd as _, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
    ptr,
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError},
};

use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};

use super::passed;

/// Held for reading while probes are removed.
static REMOVAL: RwLock<()> = RwLock::new(());

/// To be held while probes are removed, all that belong together.
pub(super) fn removal() -> RwLockReadGuard<'static, ()> {
    // The lock guards no data, so a panic of its holder spoils none.
    REMOVAL.read().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for a removal of probes that has begun, after calling `waiting`; returns at once if there
/// is none. None begins as long as what it returns is held: who ends loopprobe now leaves no child
/// behind that has copies of its descriptors.
pub(crate) fn await_removal(waiting: impl FnOnce()) -> RwLockWriteGuard<'static, ()> {
    match REMOVAL.try_write() {
        Ok(none) => none,
        Err(TryLockError::Poisoned(none)) => none.into_inner(),
        Err(TryLockError::WouldBlock) => {
            waiting();
            REMOVAL.write().unwrap_or_else(PoisonError::into_inner)
        }
    }
}

/// Makes `count` links, each by a call of `make` with its number, and adds them to `links` up to
/// the first that fails.
///
/// # Errors
///
/// What `make` gives; or [`io::ErrorKind::Interrupted`] if the child was killed.
///
/// # Safety
///
/// `make` is called in a child of a process with threads: it may make system calls, and must not
/// allocate, lock or panic.
pub(super) unsafe fn make(
    count: usize,
    links: &mut Vec<OwnedFd>,
    make: impl Fn(usize) -> io::Result<OwnedFd>,
) -> io::Result<()> {
    let (here, there) = passed::pair()?;
    // SAFETY: `make` keeps to it by contract, `send` makes system calls only.
    let child = unsafe {
        fork(|| {
            // With its own copy of this end, the child would not see loopprobe's end.
            libc::close(here.as_raw_fd());
            for number in 0..count {
                let made = make(number);
                let last = made.is_err();
                if !passed::send(&there, made) || last {
                    break;
                }
            }
        })
    };
    let Ok(child) = child.inspect_err(warn) else {
        for number in 0..count {
            links.push(make(number)?);
        }
        return Ok(());
    };
    drop(there);
    let result = (0..count).try_for_each(|_| {
        links.push(passed::receive(&here)?);
        Ok(())
    });
    child.wait();
    result
}

/// Closes links: each part by the death of a child, all parts at once. Returns when what they held
/// is gone.
pub(super) fn close(parts: Vec<Vec<OwnedFd>>) {
    if let Err(error) = try_close(parts) {
        warn(&error);
    }
}

/// What cannot be closed so is closed here all the same.
fn try_close(parts: Vec<Vec<OwnedFd>>) -> io::Result<()> {
    let (waits, go) = UnixStream::pair()?;
    let (mut children, mut result) = (Vec::new(), Ok(()));
    for part in &parts {
        match keep(part, &waits) {
            Ok(child) => children.push(child),
            Err(error) => result = Err(error),
        }
    }
    drop(waits);
    // None of these is the last to be closed, so nothing is removed here.
    drop(parts);
    drop(go);
    children.into_iter().for_each(Child::wait);
    result
}

/// How often a child is started that was killed before it held its part.
const TRIES: usize = 5;

/// Starts a child that holds a part until nobody holds the other end of `waits`. Where it was
/// killed at once, so may loopprobe be next, and must not be the last that holds the part.
fn keep(part: &[OwnedFd], waits: &UnixStream) -> io::Result<Child> {
    for _ in 0..TRIES {
        let (mut ready, says_ready) = UnixStream::pair()?;
        let mut kept: Vec<RawFd> = part.iter().map(std::os::fd::AsRawFd::as_raw_fd).collect();
        kept.extend([says_ready.as_raw_fd(), waits.as_raw_fd()]);
        kept.sort_unstable();
        // SAFETY: system calls only, on memory that exists.
        let child = unsafe { fork(|| hold(&kept, &says_ready, waits)) }?;
        drop(says_ready);
        // One that was killed leaves an end of file.
        if ready.read_exact(&mut [0]).is_ok() {
            return Ok(child);
        }
        child.wait();
    }
    Err(io::ErrorKind::Interrupted.into())
}

/// The child's part: keeps some descriptors and nothing else, not even standard output, until
/// nobody holds the other end.
fn hold(kept: &[RawFd], says_ready: &UnixStream, go: &UnixStream) {
    let mut from = 0;
    for &fd in kept {
        if fd > from {
            close_range(from, fd - 1);
        }
        from = fd + 1;
    }
    close_range(from, RawFd::MAX);
    let mut byte = [0_u8];
    // SAFETY: a live buffer of the given length.
    unsafe {
        libc::write(says_ready.as_raw_fd(), byte.as_ptr().cast(), 1);
        libc::close(says_ready.as_raw_fd());
        while libc::read(go.as_raw_fd(), byte.as_mut_ptr().cast(), 1) < 0
            && *libc::__errno_location() == libc::EINTR
        {}
    }
}

fn close_range(first: RawFd, last: RawFd) {
    // SAFETY: the child uses none of these.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
}

fn warn(error: &io::Error) {
    log::warn!(
        "cannot start a process that places or removes probes ({error}), so loopprobe does it itself: killed meanwhile, it \
         would leave breakpoints in the process"
    );
}

/// A copy of this process with one thread, in a session of its own, with all signals
/// blocked but the one of a child's death.
#[derive(Debug)]
struct Child(libc::pid_t);

/// Starts one, which does `work` and then dies.
///
/// # Safety
///
/// As for [`make`].
unsafe fn fork(work: impl FnOnce()) -> io::Result<Child> {
    // The child must have them blocked from its first instruction on. But for the news of a child
    // that has died: blocked in one thread it is not ignored, and interrupts what another one asks
    // of the kernel, such as to load a program.
    let mut blocked = SigSet::all();
    blocked.remove(Signal::SIGCHLD);
    let mut mask = SigSet::empty();
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&blocked), Some(&mut mask))?;
    // SAFETY: the child does `work`, a few system calls, and dies.
    let result = match unsafe { libc::fork() } {
        0 => {
            let end = Die;
            // SAFETY: no arguments. What is sent to loopprobe's whole process group does not reach
            // another session.
            unsafe { libc::setsid() };
            work();
            end.now()
        }
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(Child(pid)),
    };
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&mask), None)?;
    result
}

/// Ends the process as `kill -9` does, so that no fatal signal is pending while its descriptors are
/// closed.
struct Die;

impl Die {
    fn now(&self) -> ! {
        loop {
            // SAFETY: the pid is this process's own.
            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        }
    }
}

impl Drop for Die {
    /// After a panic, which must not go on into what the parent was doing.
    fn drop(&mut self) {
        self.now();
    }
}

impl Child {
    /// Until it is gone, its descriptors closed: the kernel tells of a death after that (`do_exit`,
    /// `kernel/exit.c`).
    fn wait(self) {
        // SAFETY: the pid is that of a child which nobody else waits for; no status is wanted.
        while unsafe { libc::waitpid(self.0, ptr::null_mut(), 0) } < 0
            && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
        {}
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        sync::mpsc::{RecvTimeoutError, channel},
        time::Duration,
    };

    use nix::unistd::pipe;

    use super::*;

    fn eventfd() -> io::Result<OwnedFd> {
        // SAFETY: no arguments that point anywhere.
        crate::attach::sys::owned(unsafe { libc::syscall(libc::SYS_eventfd2, 0, 0) })
    }

    /// Of the calling process; system calls only.
    fn is_out_of_reach() -> bool {
        let unblocked = |signal| !SigSet::thread_get_mask().is_ok_and(|mask| mask.contains(signal));
        // SAFETY: no arguments that point anywhere.
        let own_session = unsafe { libc::getsid(0) == libc::getpid() };
        own_session
            && !Signal::iterator().filter(may_be_blocked).any(unblocked)
            && unblocked(Signal::SIGCHLD)
    }

    fn may_be_blocked(signal: &Signal) -> bool {
        !matches!(signal, Signal::SIGKILL | Signal::SIGSTOP | Signal::SIGCHLD)
    }

    #[test]
    fn links_are_made_where_signals_to_this_process_do_not_reach() {
        let mut links = Vec::new();
        let make = |number| match number {
            2 => Err(io::Error::from_raw_os_error(libc::ENOSPC)),
            _ if is_out_of_reach() => eventfd(),
            _ => Err(io::Error::from_raw_os_error(libc::EIO)),
        };
        // SAFETY: system calls only.
        let error = unsafe { super::make(4, &mut links, make) }.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
        assert_eq!(links.len(), 2);
        assert!(!is_out_of_reach());
    }

    #[test]
    fn what_was_closed_is_gone_at_the_return() {
        let (readers, writers): (Vec<_>, Vec<_>) = (0..8).map(|_| pipe().unwrap()).unzip();
        let mut writers = writers.into_iter();
        close(vec![
            writers.by_ref().take(3).collect(),
            writers.by_ref().take(3).collect(),
        ]);
        for reader in readers.into_iter().take(6) {
            assert_eq!(File::from(reader).read(&mut [0]).unwrap(), 0);
        }
    }

    #[test]
    fn a_removal_is_waited_for() {
        drop(await_removal(|| panic!("there is none")));
        let (says, hears) = channel();
        let removal = removal();
        let waiter = std::thread::spawn({
            let says = says.clone();
            move || {
                drop(await_removal(|| says.send("waiting").unwrap()));
                says.send("over").unwrap();
            }
        });
        assert_eq!(hears.recv().unwrap(), "waiting");
        let early = hears.recv_timeout(Duration::from_millis(50));
        assert_eq!(early, Err(RecvTimeoutError::Timeout));
        drop(removal);
        assert_eq!(hears.recv().unwrap(), "over");
        waiter.join().unwrap();
    }
}
