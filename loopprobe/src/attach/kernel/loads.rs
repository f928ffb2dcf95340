//! Loads of the kernel side that sessions share.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::{
    Kernel, Settings,
    load::{Load, Purpose},
    seat::Seat,
};
use crate::attach::AttachError;

/// Loads that are there, for further targets. Each program at a tracepoint runs at every switch of
/// the machine, so there had better be one of it.
#[derive(Debug, Default)]
pub struct Loads(Mutex<Vec<Weak<Load>>>);

impl Loads {
    /// The kernel side for another process: of a load that is there, or else of a new one.
    ///
    /// # Errors
    ///
    /// As for [`Kernel::load`].
    pub fn kernel(&self, settings: &Settings) -> Result<Kernel, AttachError> {
        // Messages say of no process which target it is.
        if settings.log {
            return Kernel::load(settings);
        }
        let mut loads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        loads.retain(|load| load.strong_count() > 0);
        let purpose = Purpose::of(settings);
        for load in loads.iter().filter_map(Weak::upgrade) {
            if load.purpose == purpose
                && let Some(seat) = Seat::take(&load, settings)?
            {
                return Ok(Kernel::new(seat, settings));
            }
        }
        let load = Arc::new(Load::new(settings, true)?);
        let seat = Seat::first(&load, settings)?;
        loads.push(Arc::downgrade(&load));
        Ok(Kernel::new(seat, settings))
    }
}
