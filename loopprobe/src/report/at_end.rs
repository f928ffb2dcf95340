//! Folds a session once, and draws every view that needs all of it when it has ended.

use std::io::{self, Write};

use crate::model::{Event, Sink};

use super::Fold;

/// A view that is drawn once, when the session has ended, from its folded stacks.
pub trait Drawing {
    /// Draws.
    ///
    /// # Errors
    ///
    /// Whatever writing gives.
    fn draw(&self, fold: &Fold, out: &mut dyn Write) -> io::Result<()>;
}

/// Folds a session once, and draws every view that was asked for at its end.
#[derive(Default)]
pub struct AtEnd {
    fold: Fold,
    drawings: Vec<(Box<dyn Drawing>, Box<dyn Write>)>,
}

impl AtEnd {
    /// Adds a drawing and where it goes.
    pub fn add(&mut self, drawing: impl Drawing + 'static, out: impl Write + 'static) {
        self.drawings.push((Box::new(drawing), Box::new(out)));
    }

    /// Whether there is nothing to draw.
    pub fn is_empty(&self) -> bool {
        self.drawings.is_empty()
    }
}

impl Sink for AtEnd {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        self.fold.event(event);
        if !matches!(event, Event::Summary(_)) {
            return Ok(());
        }
        let mut result = Ok(());
        for (drawing, out) in &mut self.drawings {
            let drawn = drawing.draw(&self.fold, out).and_then(|()| out.flush());
            result = result.and(drawn);
        }
        result
    }
}
