//! The worst calls, in the summary.

use std::io::{self, Write};

use super::{
    table::{ROWS, Row, Table, more},
    width::Width,
};
use crate::{
    model::{Cause, Group},
    report::{Count, Measured, clean, units, words},
};

/// Long polls with one cause in one call, of whatever task types.
struct Call<'a> {
    cause: Cause,
    first: &'a Group,
    types: usize,
    count: u64,
    total_ns: u64,
    max_ns: u64,
    /// For how long tasks waited behind them in all, where that is known.
    waited_ns: Option<u64>,
}

/// Worst first: by how long tasks waited behind them, where that is known. Where no call is known,
/// the task type stands for it.
fn calls(groups: &[Group]) -> Vec<Call<'_>> {
    let place = |group: &Group| {
        (
            group.cause,
            group.call.clone().unwrap_or(group.task.clone()),
        )
    };
    let mut calls: Vec<Call<'_>> = Vec::new();
    for group in groups {
        match calls
            .iter_mut()
            .find(|call| place(call.first) == place(group))
        {
            Some(call) => {
                call.types += 1;
                call.count += group.count;
                call.total_ns = call.total_ns.saturating_add(group.total_ns);
                call.max_ns = call.max_ns.max(group.max_ns);
                let waited_ns = group.waits.map(|waits| waits.total_ns);
                let both = call.waited_ns.into_iter().chain(waited_ns);
                call.waited_ns = both.reduce(u64::saturating_add);
            }
            None => calls.push(Call {
                cause: group.cause,
                first: group,
                types: 1,
                count: group.count,
                total_ns: group.total_ns,
                max_ns: group.max_ns,
                waited_ns: group.waits.map(|waits| waits.total_ns),
            }),
        }
    }
    calls.sort_by_key(|call| std::cmp::Reverse((call.waited_ns, call.total_ns)));
    calls
}

/// The table of the worst calls.
pub(super) fn write(out: &mut impl Write, groups: &[Group], width: Width) -> io::Result<()> {
    if groups.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    let calls = calls(groups);
    // The task type is often the same everywhere.
    let differ = groups.iter().any(|group| group.task != groups[0].task);
    let with_waits = calls.iter().any(|call| call.waited_ns.is_some());
    let waits = with_waits.then_some("waits behind");
    let heads = ["long", "total", "max"].into_iter().chain(waits);
    let heads: Vec<&str> = heads.chain(["cause", "call"]).collect();
    let mut table = Table::new(&heads);
    for call in calls.iter().take(ROWS) {
        let mut cells = vec![
            Count(call.count).to_string(),
            Measured(call.total_ns).to_string(),
            Measured(call.max_ns).to_string(),
        ];
        if with_waits {
            cells.push(units::known(call.waited_ns, units::ns));
        }
        cells.push(words::cause(call.cause).to_owned());
        table.row(call.row(cells, differ));
    }
    table.write(out, width)?;
    more(out, calls.len())
}

impl Call<'_> {
    fn row(&self, cells: Vec<String>, with_task: bool) -> Row {
        let task = words::task(&self.first.task);
        let name = match &self.first.call {
            Some(call) => clean(call).into_owned(),
            None => format!("({task})"),
        };
        let location = self.first.location.as_ref();
        let place = match words::place_beside(&name, location) {
            Some(place) => Some(place),
            None if self.first.call.is_none() || !with_task => None,
            None if self.types > 1 => Some(words::count(self.types as u64, "task type")),
            None => Some(task),
        };
        Row { cells, name, place }
    }
}
