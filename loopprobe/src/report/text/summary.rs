//! The last lines of a report: percentiles, the worst calls, task types, losses and cost.

use std::io::{self, Write};

use super::{
    calls, delays, doubts, no_polls,
    style::{FAINT, NOTE},
    table::{ROWS, Row, Table, more},
    width::Width,
};
use crate::{
    model::{Canary, Coverage, Lost, Summary, TaskKind, TaskSummary},
    report::{Count, Measured, Thresholds, clean, units, words},
};

/// The end of a session: rate, percentiles, the worst calls, a table per task type, what was lost,
/// what it cost.
pub(super) fn write(
    out: &mut impl Write,
    summary: &Summary,
    thresholds: Thresholds,
    width: Width,
) -> io::Result<()> {
    writeln!(out)?;
    prose(out, width, |out| {
        polls(out, summary)?;
        long_polls(out, summary, thresholds)?;
        looks(out, summary)?;
        delays::write(out, summary)?;
        findings(out, summary)?;
        outside(out, summary)
    })?;
    calls::write(out, &summary.groups, width)?;
    tasks(out, &summary.tasks, width)?;
    lost(out, summary.lost.as_ref(), width)?;
    prose(out, width, |out| {
        cost(out, summary)?;
        doubts::write(out, summary)
    })
}

/// Lines of plain words, wrapped to the width.
fn prose(
    out: &mut impl Write,
    width: Width,
    write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>,
) -> io::Result<()> {
    const INDENT: usize = 4;
    let mut text = Vec::new();
    write(&mut text)?;
    for line in String::from_utf8_lossy(&text).lines() {
        writeln!(out, "{}", width.wrap(line, INDENT))?;
    }
    Ok(())
}

fn polls(out: &mut impl Write, summary: &Summary) -> io::Result<()> {
    let duration = Measured(summary.duration_ns);
    write!(out, "{duration} ({}): ", clean(&summary.reason))?;
    let Some(polls) = summary.polls else {
        let said = match summary.possible_long_polls {
            Some(_) => "polls were watched, not counted",
            None => "polls and percentiles unknown",
        };
        return writeln!(out, "{said}");
    };
    let rate = per_second(polls, summary.duration_ns);
    write!(out, "{} ({}/s)", words::count(polls, "poll"), Count(rate))?;
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

/// What was timed exactly where the rest was watched.
fn looks(out: &mut impl Write, summary: &Summary) -> io::Result<()> {
    let Some(looks) = &summary.looks else {
        return Ok(());
    };
    if looks.count == 0 {
        return writeln!(out, "nothing was probed");
    }
    writeln!(
        out,
        "probed {} for {} in all, at {} at the most: {} timed exactly, {} of them long",
        words::count(looks.count, "time"),
        Measured(looks.duration_ns),
        words::count(looks.most_sites, "poll site"),
        words::count(looks.polls, "poll"),
        Count(looks.long_polls)
    )
}

fn findings(out: &mut impl Write, summary: &Summary) -> io::Result<()> {
    if summary.findings.is_empty() {
        return Ok(());
    }
    let kinds: Vec<String> = summary
        .findings
        .iter()
        .map(|found| format!("{} {}", Count(found.count), found.kind.name()))
        .collect();
    writeln!(out, "findings: {}", kinds.join(", "))
}

fn long_polls(out: &mut impl Write, summary: &Summary, thresholds: Thresholds) -> io::Result<()> {
    if summary.polls == Some(0) {
        write!(out, "{}", no_polls::headline(summary.no_polls.as_ref()))?;
        if let Some(found) = &summary.no_polls {
            writeln!(out, "; at the end of this time:")?;
            no_polls::write(out, found)?;
        } else {
            writeln!(out)?;
        }
        if summary.long_polls == 0 {
            return Ok(());
        }
    }
    let may_be = summary.possible_long_polls.filter(|&n| n > 0);
    let may_be = may_be.map_or_else(String::new, |n| {
        format!("; {} that long are possible", Count(n))
    });
    if summary.long_polls == 0 {
        return no_long_polls(out, summary, thresholds, &may_be);
    }
    let worker_ns = summary.worker_ns.unwrap_or(summary.long_ns);
    write!(
        out,
        "{} >= {} blocked {}{} of worker time",
        words::count(summary.long_polls, "poll"),
        thresholds,
        if summary.possible_long_polls.is_some() {
            "at least "
        } else {
            ""
        },
        Measured(worker_ns)
    )?;
    if let Some(share) = share_of_workers(worker_ns, summary) {
        write!(out, " ({share})")?;
    }
    writeln!(out, "{may_be}")
}

/// Says so only of threads that could be looked at.
fn no_long_polls(
    out: &mut impl Write,
    summary: &Summary,
    thresholds: Thresholds,
    may_be: &str,
) -> io::Result<()> {
    let coverage = summary.coverage.as_deref();
    let of_tasks = if coverage.is_some_and(|coverage| !coverage.root_future) {
        " of tasks"
    } else {
        ""
    };
    write!(out, "no polls{of_tasks} >= {thresholds}")?;
    if summary.possible_long_polls.is_some() {
        write!(out, " for certain")?;
    }
    let is_blind = |canary: &Canary| canary.ok == Some(false);
    let threads = summary.lost.map_or(0, |lost| lost.unwalked_threads);
    let budget = summary.budget.as_deref();
    let paused_ns = budget.map_or(0, |budget| budget.paused_ns);
    let watched_ns = budget.map_or(0, |budget| budget.watched_ns);
    if paused_ns > 0 {
        let paused = Measured(paused_ns);
        write!(
            out,
            " were seen, but the process was not looked at for {paused}"
        )?;
    } else if watched_ns > 0 {
        let watched = Measured(watched_ns);
        write!(out, " were seen, but for {watched} polls were only watched")?;
    } else if summary.canary.as_ref().is_some_and(is_blind) {
        write!(out, " were seen, but loopprobe's own check failed")?;
    } else if threads > 0 {
        let threads = words::count(threads, "thread");
        write!(out, " were seen, but {threads} could not be looked at")?;
    }
    writeln!(out, "{may_be}")?;
    coverage.map_or(Ok(()), |coverage| seen(out, coverage))
}

/// What silence can be about.
fn seen(out: &mut impl Write, coverage: &Coverage) -> io::Result<()> {
    let (fired, sites) = (coverage.sites_fired, coverage.sites);
    let roots = match (coverage.root_future, coverage.roots_watched_ns) {
        // One that waits since before the attach makes no turn.
        (true, _) => "covered from their next turn on".to_owned(),
        (false, 0) => "not seen".to_owned(),
        (false, ns) => format!("watched for {}, where they wait", Measured(ns)),
    };
    writeln!(
        out,
        "coverage: {} of {} fired; root futures {roots}",
        Count(fired),
        words::count(sites, "poll site")
    )
}

fn outside(out: &mut impl Write, summary: &Summary) -> io::Result<()> {
    if summary.outside_runtime == 0 {
        return Ok(());
    }
    writeln!(
        out,
        "{} outside any runtime, between calls of block_on ({} long stretches): not counted",
        Measured(summary.outside_runtime_ns),
        Count(summary.outside_runtime)
    )
}

fn tasks(out: &mut impl Write, tasks: &[TaskSummary], width: Width) -> io::Result<()> {
    if tasks.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    let mut table = Table::new(&["polls", "total", "p50", "p99", "max", "long", "task type"]);
    for summary in tasks.iter().take(ROWS) {
        table.row(task_row(summary));
    }
    table.write(out, width)?;
    more(out, tasks.len())
}

fn task_row(summary: &TaskSummary) -> Row {
    let mut name = words::task_name(&summary.task);
    let place = words::place_beside(&name, summary.task.location.as_ref());
    let polls = units::known(summary.polls, |n| Count(n).to_string());
    let mut cells = vec![polls];
    if summary.task.kind == TaskKind::Blocking {
        name = format!("(blocking pool) {name}");
        // Counted, not timed.
        cells.extend(vec!["-".to_owned(); 5]);
    } else if summary.task.kind == TaskKind::Root {
        // Turns of a loop have no number.
        cells = vec!["-".to_owned(); 4];
        cells.extend([
            Measured(summary.max_ns).to_string(),
            Count(summary.long).to_string(),
        ]);
    } else {
        cells.extend([
            units::known(summary.total_ns, units::ns),
            units::known(summary.p50_ns, units::ns),
            units::known(summary.p99_ns, units::ns),
            Measured(summary.max_ns).to_string(),
            Count(summary.long).to_string(),
        ]);
    }
    Row { cells, name, place }
}

fn lost(out: &mut impl Write, lost: Option<&Lost>, width: Width) -> io::Result<()> {
    writeln!(out)?;
    let Some(lost) = lost else {
        return writeln!(out, "{NOTE}lost:{NOTE:#} {}", units::UNKNOWN);
    };
    let counters = words::lost(lost);
    if counters.is_empty() {
        writeln!(out, "lost: nothing")?;
    } else {
        let counters = width.wrap(&counters.join(", "), 6);
        writeln!(out, "{NOTE}lost:{NOTE:#} {counters}")?;
    }
    if lost.unresolved_frames > 0 {
        let frames = words::count(lost.unresolved_frames, "frame");
        writeln!(out, "{FAINT}without a name: {frames}{FAINT:#}")?;
    }
    Ok(())
}

fn cost(out: &mut impl Write, summary: &Summary) -> io::Result<()> {
    let Some(cost) = summary.cost else {
        return writeln!(out, "probe cost: could not be measured");
    };
    let total = Measured(cost.total_ns);
    if summary.looks.is_some() {
        write!(out, "cost: {total} of CPU time")?;
    } else if summary.possible_long_polls.is_some() {
        write!(out, "cost, without probes: {total} of CPU time")?;
    } else {
        let per_poll = cost.ns_per_poll / 1_000.0;
        write!(
            out,
            "probe cost: {per_poll:.2}us a poll, {total} of CPU time"
        )?;
    }
    if let Some(share) = share_of_workers(cost.total_ns, summary) {
        write!(out, " ({share})")?;
    }
    let parts = words::cost_parts(&cost);
    if !parts.is_empty() {
        write!(out, ": {}", parts.join(", "))?;
    }
    let dead_ns = cost.dead_start_ns + cost.dead_end_ns;
    if dead_ns > 0 && summary.long_polls > 0 {
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
    Some(format!(
        "{percent:.digits$}% of {}",
        words::count(workers, "worker")
    ))
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
