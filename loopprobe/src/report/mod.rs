//! Views of a session: each takes the same events, live or from a recording, and writes one form of them.

mod at_end;
mod each_once;
mod flamegraph;
mod fold;
mod folded;
mod label;
mod share;
mod units;

pub use at_end::{AtEnd, Drawing};
pub use each_once::EachOnce;
pub use flamegraph::Flamegraph;
pub use fold::{Fold, Node, Weight};
pub use folded::Folded;
pub use label::Owner;

use std::io;

use crate::model::Event;

/// A view of a session.
pub trait Sink {
    /// Takes the next event: first the `Session`, last the `Summary`.
    ///
    /// # Errors
    ///
    /// Whatever writing gives; [`io::ErrorKind::BrokenPipe`] means that the reader has gone and ends the session quietly.
    fn event(&mut self, event: &Event) -> io::Result<()>;
}
