//! One self-contained page to attach to a ticket.

mod bars;
mod escape;
mod flamegraph;
mod gather;
mod lanes;
mod page;
mod polls;
mod tables;
mod words;

use std::io::{self, Write};

use crate::model::{Event, Sink};

use gather::Gathered;

/// Gathers a session and writes one HTML file at its end: what happened in a paragraph, a ranked
/// table, a timeline, a histogram, the flamegraph. It loads nothing from anywhere, and whatever the
/// target provided is escaped.
pub struct Html<W> {
    gathered: Gathered,
    out: W,
}

impl<W: Write> Html<W> {
    /// A page that goes to `out`.
    pub fn new(out: W) -> Self {
        Self {
            gathered: Gathered::default(),
            out,
        }
    }
}

impl<W: Write> Sink for Html<W> {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        self.gathered.event(event)?;
        if !matches!(event, Event::Summary(_)) {
            return Ok(());
        }
        page::write(&self.gathered, &mut self.out)?;
        self.out.flush()
    }
}
