use std::io::{self, Write};

use super::{
    style::{FAINT, NOTE},
    table::Table,
};
use crate::{
    model::{Group, Lost, Summary, TaskKind, TaskSummary},
    report::{Chosen, Count, Measured, clean, units, words},
};

/// Longer tables are cut here; the JSON has all rows.
const ROWS: usize = 20;

/// The end of a session: rate, percentiles, a table per task type, the worst groups, what was lost, what it cost.
pub fn write(out: &mut impl Write, summary: &Summary, threshold_ns: u64) -> io::Result<()> {
    writeln!(out)?;
    polls(out, summary)?;
    long_polls(out, summary, threshold_ns)?;
    tasks(out, &summary.tasks)?;
    groups(out, &summary.groups)?;
    lost(out, summary.lost.as_ref())?;
    cost(out, summary)
}

fn polls(out: &mut impl Write, summary: &Summary) -> io::Result<()> {
    let duration = Measured(summary.duration_ns);
    write!(out, "{duration} ({}): ", clean(&summary.reason))?;
    let Some(polls) = summary.polls else {
        return writeln!(out, "polls and percentiles unknown");
    };
    let rate = per_second(polls, summary.duration_ns);
    write!(out, "{} polls ({}/s)", Count(polls), Count(rate))?;
    if polls > 0 {
        write!(
            out,
            ", p50 {} p99 {} max {}",
            units::known(summary.p50_ns, units::ns),
            units::known(summary.p99_ns, units::ns),
            units::known(summary.max_ns, units::ns)
        )?;
    }
    if let Some(closures) = summary.blocking_polls.filter(|&n| n > 0) {
        write!(out, "; {} on the blocking pool", Count(closures))?;
    }
    writeln!(out)
}

fn long_polls(out: &mut impl Write, summary: &Summary, threshold_ns: u64) -> io::Result<()> {
    if summary.long_polls == 0 {
        return writeln!(out, "no polls >= {}", Chosen(threshold_ns));
    }
    let plural = if summary.long_polls == 1 {
        "poll"
    } else {
        "polls"
    };
    write!(
        out,
        "{} {plural} >= {} blocked {} of worker time",
        Count(summary.long_polls),
        Chosen(threshold_ns),
        Measured(summary.long_ns)
    )?;
    if let Some(share) = share_of_workers(summary.long_ns, summary) {
        write!(out, " ({share})")?;
    }
    writeln!(out)
}

fn tasks(out: &mut impl Write, tasks: &[TaskSummary]) -> io::Result<()> {
    if tasks.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    let mut table = Table::new(&["polls", "total", "p50", "p99", "max", "long", "task type"]);
    for summary in tasks.iter().take(ROWS) {
        table.row(task_row(summary));
    }
    table.write(out)?;
    more(out, tasks.len())
}

fn task_row(summary: &TaskSummary) -> Vec<String> {
    let mut name = words::task_name(&summary.task);
    if let Some(location) = &summary.task.location {
        name = format!("{name}  {}", words::place(location));
    }
    let polls = units::known(summary.polls, |n| Count(n).to_string());
    if summary.task.kind == TaskKind::Blocking {
        let untimed = || "-".to_owned();
        name.push_str("  (blocking pool)");
        return vec![
            polls,
            untimed(),
            untimed(),
            untimed(),
            untimed(),
            untimed(),
            name,
        ];
    }
    vec![
        polls,
        units::known(summary.total_ns, units::ns),
        units::known(summary.p50_ns, units::ns),
        units::known(summary.p99_ns, units::ns),
        Measured(summary.max_ns).to_string(),
        Count(summary.long).to_string(),
        name,
    ]
}

fn groups(out: &mut impl Write, groups: &[Group]) -> io::Result<()> {
    if groups.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    let mut table = Table::new(&["long", "total", "max", "cause, call and task type"]);
    for group in groups.iter().take(ROWS) {
        let call = group
            .call
            .as_ref()
            .map(|call| format!(" in {}", clean(call)))
            .unwrap_or_default();
        table.row(vec![
            Count(group.count).to_string(),
            Measured(group.total_ns).to_string(),
            Measured(group.max_ns).to_string(),
            format!(
                "{}{call}  {FAINT}{}{FAINT:#}",
                words::cause(group.cause),
                clean(&group.task)
            ),
        ]);
    }
    table.write(out)?;
    more(out, groups.len())
}

fn more(out: &mut impl Write, rows: usize) -> io::Result<()> {
    if rows <= ROWS {
        return Ok(());
    }
    writeln!(
        out,
        "  {FAINT}and {} more; --format json has all{FAINT:#}",
        rows - ROWS
    )
}

fn lost(out: &mut impl Write, lost: Option<&Lost>) -> io::Result<()> {
    writeln!(out)?;
    let Some(lost) = lost else {
        return writeln!(out, "{NOTE}lost:{NOTE:#} {}", units::UNKNOWN);
    };
    let counters = words::lost(lost);
    if counters.is_empty() {
        return writeln!(out, "lost: nothing");
    }
    writeln!(out, "{NOTE}lost:{NOTE:#} {}", counters.join(", "))
}

fn cost(out: &mut impl Write, summary: &Summary) -> io::Result<()> {
    let Some(cost) = summary.cost else {
        return writeln!(out, "probe cost: could not be measured");
    };
    let per_poll = cost.ns_per_poll / 1_000.0;
    write!(
        out,
        "probe cost: {per_poll:.2}us a poll, {} of CPU time",
        Measured(cost.total_ns)
    )?;
    if let Some(share) = share_of_workers(cost.total_ns, summary) {
        write!(out, " ({share})")?;
    }
    let dead_ns = cost.dead_start_ns + cost.dead_end_ns;
    if dead_ns > 0 {
        let dead_us = dead_ns as f64 / 1_000.0;
        write!(out, "; {dead_us:.1}us have been taken off each long poll")?;
    }
    writeln!(out)
}

fn per_second(count: u64, duration_ns: u64) -> u64 {
    let per_second = u128::from(count) * 1_000_000_000 / u128::from(duration_ns.max(1));
    u64::try_from(per_second).unwrap_or(u64::MAX)
}

/// `0.8% of 8 workers`.
fn share_of_workers(ns: u64, summary: &Summary) -> Option<String> {
    let workers = summary.workers?;
    let available = summary
        .duration_ns
        .checked_mul(workers)
        .filter(|&ns| ns > 0)?;
    #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
    let percent = ns as f64 / available as f64 * 100.0;
    let digits = if percent < 10.0 { 2 } else { 1 };
    let plural = if workers == 1 { "worker" } else { "workers" };
    Some(format!("{percent:.digits$}% of {workers} {plural}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_survives_an_empty_session() {
        assert_eq!(per_second(0, 0), 0);
        assert_eq!(per_second(5, 500_000_000), 10);
        assert_eq!(per_second(u64::MAX, 1), u64::MAX);
    }
}
