//! The session beside one with probes that watches root futures which cannot be probed.

use std::{io, sync::Arc};

use nix::sys::eventfd::EventFd;

use crate::collect::{Options, beside::Beside};

/// The session beside this one.
pub(crate) struct WatchedRoots {
    pub beside: Option<Beside>,
    /// Since when it watches.
    pub since_ns: Option<u64>,
    /// Readable when it has something to tell.
    pub ready: Arc<EventFd>,
    /// Whether it has been told to end, or cannot begin.
    pub is_over: bool,
}

impl WatchedRoots {
    /// For these options; `None` where nobody wants it.
    pub(crate) fn of(options: &Options) -> io::Result<Option<Self>> {
        if !options.wants_roots() {
            return Ok(None);
        }
        Ok(Some(Self {
            beside: None,
            since_ns: None,
            ready: Beside::event()?,
            is_over: false,
        }))
    }

    /// The process has executed another program.
    pub(crate) fn forget(&mut self) {
        if let Some(beside) = &self.beside {
            beside.end();
        }
        self.is_over = false;
    }
}
