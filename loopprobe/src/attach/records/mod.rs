//! What the kernel side sends: taken out of the ring buffers at once, and held for each target
//! until somebody looks at it.

mod inbox;
mod post;
mod record;

pub(crate) use post::Drain;
pub(super) use post::{Post, Rings};
pub(crate) use record::Record;
