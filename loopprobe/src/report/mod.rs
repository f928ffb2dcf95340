//! Views of a session: each takes the same events, live or from a recording, and writes one form of
//! them.

mod at_end;
mod baseline;
mod cut;
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
mod thresholds;
mod timeline;
mod units;
mod wall_clock;
pub mod words;

pub use at_end::{AtEnd, Drawing};
pub use baseline::{Baseline, OwnTime, Worse, kind};
pub use cut::{beginning_of, end_of};
pub use diff::{Change, Diff, Side};
pub use each_once::EachOnce;
pub use escape::clean;
pub use flamegraph::Flamegraph;
pub use fold::{Fold, Node, Weight};
pub use folded::Folded;
pub use histogram::Histogram;
pub use html::Html;
pub use json::JsonSink;
pub(crate) use label::owner_of_file;
pub use label::{Owner, frame_name};
pub use pprof::Pprof;
pub use ranking::{Key, Ranking, Row, key};
pub use speedscope::Speedscope;
pub use text::{TextOptions, TextSink, write_threads};
pub use thresholds::Thresholds;
pub use timeline::Timeline;
pub use units::{Chosen, Count, Measured};
pub use wall_clock::{WallClock, rfc3339};
