//! The session beside one with probes that watches while they are away, to keep to a budget.

use std::{io, sync::Arc};

use nix::sys::eventfd::EventFd;

use crate::collect::{Options, beside::Beside};

/// What watches meanwhile.
pub(crate) struct StandIn {
    /// `None` while there are probes.
    pub beside: Option<Beside>,
    /// Readable when it has something to tell.
    pub ready: Arc<EventFd>,
}

impl StandIn {
    /// For these options; `None` where nobody wants it.
    pub(crate) fn of(options: &Options) -> io::Result<Option<Self>> {
        if !options.wants_stand_in() {
            return Ok(None);
        }
        Ok(Some(Self {
            beside: None,
            ready: Beside::event()?,
        }))
    }
}
