//! Right-aligned columns before a name that is cut to fit the terminal.

use std::io::{self, Write};

use unicode_width::UnicodeWidthStr as _;

use super::{style::FAINT, width::Width};

/// Longer tables are cut here; the JSON has all rows.
pub(super) const ROWS: usize = 20;

/// Says how many rows were cut off.
pub(super) fn more(out: &mut impl Write, rows: usize) -> io::Result<()> {
    if rows <= ROWS {
        return Ok(());
    }
    writeln!(
        out,
        "  {FAINT}and {} more; --format json has all{FAINT:#}",
        rows - ROWS
    )
}

/// A table with right-aligned columns, but for the last one, a name that is cut on its left where
/// the line is too short.
pub(super) struct Table {
    heads: Vec<String>,
    rows: Vec<Row>,
}

/// Cells, then a name and, where there is one, a place in the source.
pub(super) struct Row {
    pub cells: Vec<String>,
    pub name: String,
    pub place: Option<String>,
}

impl Table {
    /// A table with these column heads; the last is the name's.
    pub(super) fn new(heads: &[&str]) -> Self {
        Self {
            heads: heads.iter().map(|&head| head.to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row with one cell fewer than there are heads.
    pub(super) fn row(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Writes it, indented.
    pub(super) fn write(&self, out: &mut impl Write, width: Width) -> io::Result<()> {
        const GAP: usize = 2;
        let Some((name, heads)) = self.heads.split_last() else {
            return Ok(());
        };
        let widths: Vec<usize> = heads
            .iter()
            .enumerate()
            .map(|(column, head)| {
                let cells = self.rows.iter().filter_map(|row| row.cells.get(column));
                cells
                    .chain([head])
                    .map(|cell| cell.width())
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        let used = GAP + widths.iter().map(|width| width + GAP).sum::<usize>();
        let room = width.behind(used);
        line(out, heads, &widths, name)?;
        for row in &self.rows {
            let name = match &row.place {
                Some(place) => room.fit_pair(&row.name, place),
                None => room.fit(&row.name).into_owned(),
            };
            line(out, &row.cells, &widths, &name)?;
        }
        Ok(())
    }
}

fn line(out: &mut impl Write, cells: &[String], widths: &[usize], last: &str) -> io::Result<()> {
    write!(out, "  ")?;
    for (cell, width) in cells.iter().zip(widths) {
        write!(out, "{cell:>width$}  ")?;
    }
    writeln!(out, "{last}")
}
