//! How wide the terminal behind an output is, if it is one and knows.

use std::os::fd::AsFd;

use terminal_size::{Width, terminal_size_of};

/// How wide a terminal is; `None` for a file or a pipe, and for a terminal that does not know.
pub(super) fn columns_of(output: &impl AsFd) -> Option<usize> {
    let (Width(columns), _) = terminal_size_of(output)?;
    (columns > 0).then_some(usize::from(columns))
}
