//! Views of a session: each takes the same events, live or from a recording, and writes one form of them.

mod at_end;
mod diff;
mod each_once;
mod escape;
mod flamegraph;
mod fold;
mod folded;
mod histogram;
mod html;
mod json;
pub(crate) mod label;
mod pprof;
mod ranking;
mod share;
mod speedscope;
mod text;
mod timeline;
mod units;
mod wall_clock;
pub mod words;

pub use at_end::{AtEnd, Drawing};
pub use diff::{Change, Diff, Side};
pub use each_once::EachOnce;
pub use escape::clean;
pub use flamegraph::Flamegraph;
pub use fold::{Fold, Node, Weight};
pub use folded::Folded;
pub use histogram::Histogram;
pub use html::Html;
pub use json::JsonSink;
pub use label::{Owner, frame_name};
pub use pprof::Pprof;
pub use ranking::{Ranking, Row};
pub use speedscope::Speedscope;
pub use text::{TextOptions, TextSink};
pub use timeline::Timeline;
pub use units::{Chosen, Count, Measured};
pub use wall_clock::WallClock;

use std::io;

use crate::model::{Event, Live};

/// A view of a session.
pub trait Sink {
    /// Takes the next event: first the `Session`, last the `Summary`.
    ///
    /// # Errors
    ///
    /// Whatever writing gives; [`io::ErrorKind::BrokenPipe`] means that the reader has gone and ends the session quietly.
    fn event(&mut self, event: &Event) -> io::Result<()>;

    /// Whether [`Self::live`] does anything: a snapshot costs time to make.
    fn wants_live(&self) -> bool {
        false
    }

    /// Takes a snapshot of a session that runs, a few times a second.
    ///
    /// # Errors
    ///
    /// As for [`Self::event`].
    fn live(&mut self, _live: Live) -> io::Result<()> {
        Ok(())
    }
}
