//! Ends a session from another thread or a signal handler, by one write to an eventfd.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
};

use nix::sys::eventfd::{EfdFlags, EventFd};

/// Ends a session from outside: from another thread or a signal handler. Clones end the same
/// session.
#[derive(Clone, Debug)]
pub struct Stop(Arc<EventFd>);

impl Stop {
    /// A handle that has not been triggered.
    ///
    /// # Errors
    ///
    /// If the process has no descriptor left.
    pub fn new() -> io::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Self(Arc::new(EventFd::from_value_and_flags(0, flags)?)))
    }

    /// Ends the session soon. Safe in a signal handler: it is one write(2).
    pub fn trigger(&self) {
        // It fails only when it has been triggered 2^64 - 2 times before.
        let _ = self.0.write(1);
    }
}

impl AsFd for Stop {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
