//! What keeps silence from meaning health: a check that failed, and what was not looked at.

use std::io::{self, Write};

use super::style::NOTE;
use crate::{
    model::Summary,
    report::{Count, Measured, clean, words},
};

/// Nothing where there is no doubt.
pub(super) fn write(out: &mut impl Write, summary: &Summary) -> io::Result<()> {
    left_out(out, summary)?;
    own_check(out, summary)
}

/// What was not looked at, to keep to a budget.
fn left_out(out: &mut impl Write, summary: &Summary) -> io::Result<()> {
    let Some(budget) = summary
        .budget
        .as_ref()
        .filter(|budget| budget.steps_down > 0)
    else {
        return Ok(());
    };
    let limit = budget.share * 100.0;
    if budget.paused_ns > 0 {
        let paused = Measured(budget.paused_ns);
        writeln!(
            out,
            "{NOTE}not looked at:{NOTE:#} {paused} of the session (--max-overhead {limit}%); what happened then is in no figure"
        )?;
    }
    if budget.no_stacks_ns > 0 {
        let bare = Measured(budget.no_stacks_ns);
        writeln!(
            out,
            "{NOTE}no stacks:{NOTE:#} for {bare} of the session (--max-overhead {limit}%); long polls of that time have no call"
        )?;
    }
    if budget.entry_only_ns > 0 {
        let by_entries = Measured(budget.entry_only_ns);
        writeln!(
            out,
            "{NOTE}entries alone:{NOTE:#} timed {by_entries} of the session (--max-overhead {limit}%), without stacks; long polls of that \
             time have no call, and may be a few microseconds shorter than told"
        )?;
    }
    if budget.watched_ns == 0 {
        return Ok(());
    }
    let watched = Measured(budget.watched_ns);
    let possible = match budget.possible_long_polls {
        0 => String::new(),
        1 => " (1 more may have been long)".to_owned(),
        more => format!(" ({} more may have been long)", Count(more)),
    };
    writeln!(
        out,
        "{NOTE}watched only:{NOTE:#} {watched} of the session (--max-overhead {limit}%): long polls of that time{possible} are told \
         between bounds, and nothing else of it is counted"
    )
}

/// loopprobe's own check, where it failed or there is none: then silence proves nothing.
fn own_check(out: &mut impl Write, summary: &Summary) -> io::Result<()> {
    let Some(canary) = summary.canary.as_ref().filter(|canary| canary.failed > 0) else {
        return Ok(());
    };
    writeln!(
        out,
        "{NOTE}own check:{NOTE:#} {} of {} of {} in loopprobe itself did not come out whole (missing: {})",
        Count(canary.failed),
        words::count(canary.checks, "block"),
        Measured(canary.block_ns),
        clean(&canary.missing.join(", "))
    )
}
