//! A line a stack with its nanoseconds: `task;outer;inner;[cause]`, as other tools read it.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use super::{Drawing, Fold, fold::Node};

/// Folded stacks, one a line with its nanoseconds: the input of every flamegraph tool.
#[derive(Clone, Copy, Debug, Default)]
pub struct Folded;

impl Drawing for Folded {
    fn draw(&self, fold: &Fold, out: &mut dyn Write) -> io::Result<()> {
        for (path, weight) in fold.stacks() {
            writeln!(out, "{} {}", join(&path), weight.ns)?;
        }
        Ok(())
    }
}

/// `task;outer;inner;[cause]`.
pub(super) fn join(path: &[&Node]) -> String {
    let mut line = String::new();
    for (i, node) in path.iter().enumerate() {
        let separator = if i == 0 { "" } else { ";" };
        let _ = write!(line, "{separator}{}", node.name);
    }
    line
}
