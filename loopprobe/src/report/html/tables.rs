//! What blocked, worst first, and every task type with its times.

use std::fmt::Write as _;

use crate::model::{LongPoll, Summary, TaskKind};

use super::{
    super::{Count, Row, label::frame_name, ranking, units, words as in_words},
    escape::Escaped,
    gather::Gathered,
    lanes::cause_class,
    words::percent,
};

const MAX_ROWS: usize = 200;
/// What stands in a cell for what is not known.
const UNKNOWN: &str = "-";

/// What blocked, worst first; each row opens to its advice and the stack of its longest poll.
pub(super) fn ranked(gathered: &Gathered) -> String {
    let rows = gathered.ranking.rows();
    if rows.is_empty() {
        return String::new();
    }
    let total = gathered.fold.total_ns();
    let polls = gathered.polls();
    let mut html = "<h2>What blocked</h2><table id=\"ranked\"><thead><tr><th>Task<th>Cause<th>Call<th class=\"n\">Polls\
         <th class=\"n\">Longest<th class=\"n\">Total<th>Share</tr></thead><tbody>"
        .to_owned();
    for row in rows.iter().take(MAX_ROWS) {
        html += &ranked_row(row, total, &polls);
    }
    html += "</tbody></table>";
    if rows.len() > MAX_ROWS {
        let _ = write!(
            html,
            "<p class=\"note\">{} more rows are not shown.</p>",
            rows.len() - MAX_ROWS
        );
    }
    html
}

fn ranked_row(row: &Row, total: u64, polls: &[&LongPoll]) -> String {
    let share = percent(row.total_ns, total);
    let call = row.call.as_ref();
    let class = cause_class(row.cause);
    let mut html = format!(
        "<tr class=\"row\" tabindex=\"0\"><td>{}<td><i class=\"c-{class}\"></i>{}<td>{}<td class=\"n\">{}<td class=\"n\">{}<td class=\"n\">{}\
         <td><span class=\"share\"><span class=\"c-{class}\" style=\"width:{share:.1}%\"></span></span>{share:.0}%</tr>",
        named(&row.task, row.location.as_ref().map(ToString::to_string)),
        in_words::cause(row.cause),
        call.map_or_else(
            || UNKNOWN.to_owned(),
            |call| named(
                &call.function,
                call.location.as_ref().map(ToString::to_string)
            )
        ),
        Count(row.count),
        units::ns(row.max_ns),
        units::ns(row.total_ns),
    );
    html += "<tr class=\"more\" hidden><td colspan=\"7\">";
    if !row.advice.is_empty() {
        let _ = write!(html, "<p class=\"fix\">Fix: {}</p>", Escaped(&row.advice));
    }
    html += &longest(row, polls);
    html + "</tr>"
}

/// A name, and the place below it.
fn named(name: &str, place: Option<String>) -> String {
    let mut html = format!("<code>{}</code>", Escaped(name));
    if let Some(place) = place {
        let _ = write!(html, "<small>{}</small>", Escaped(&place));
    }
    html
}

/// The stack of the row's longest poll that the page holds.
fn longest(row: &Row, polls: &[&LongPoll]) -> String {
    let call = row.call.as_ref().map(|call| call.function.clone());
    let key = (row.task.clone(), row.cause, call);
    let own = polls.iter().filter(|poll| ranking::key(poll) == key);
    let Some(poll) = own.max_by_key(|poll| poll.duration_ns) else {
        return String::new();
    };
    let mut html = format!(
        "<p>The longest: {} on {} {}{}.</p>",
        units::ns(poll.duration_ns),
        Escaped(&poll.thread),
        poll.tid,
        if poll.ended {
            ""
        } else {
            ", still running at the end"
        },
    );
    let evidence = poll.diagnosis.iter().flat_map(|d| &d.evidence);
    // How long the deciding stretch was, without a unit: the stack says it better.
    for (name, value) in evidence.filter(|(name, _)| *name != "ns") {
        let _ = write!(
            html,
            "<span class=\"fact\">{} <code>{}</code></span> ",
            Escaped(name),
            Escaped(value)
        );
    }
    if let Some(stack) = poll.stacks.first() {
        html += "<ol class=\"stack\">";
        for frame in &stack.frames {
            let class = if frame.runtime { "runtime" } else { "own" };
            let place = frame.location.as_ref().map(ToString::to_string);
            let _ = write!(
                html,
                "<li class=\"{class}\">{}</li>",
                named(&frame_name(frame), place)
            );
        }
        html += "</ol>";
    }
    html
}

/// Every task type, most time first.
pub(super) fn tasks(summary: &Summary) -> String {
    let mut html = "<h2>Task types</h2><table><thead><tr><th>Task<th>Kind<th class=\"n\">Polls<th class=\"n\">Total<th class=\"n\">p50\
         <th class=\"n\">p99<th class=\"n\">Max<th class=\"n\">Long</tr></thead><tbody>"
        .to_owned();
    for task in summary.tasks.iter().take(MAX_ROWS) {
        let kind = match task.task.kind {
            TaskKind::Async => "async",
            TaskKind::Blocking => "blocking pool",
            TaskKind::Root => "root",
        };
        let _ = write!(
            html,
            "<tr><td>{}<td>{kind}<td class=\"n\">{}<td class=\"n\">{}<td class=\"n\">{}<td class=\"n\">{}<td class=\"n\">{}<td class=\"n\">{}</tr>",
            named(
                &task.task.name,
                task.task.location.as_ref().map(ToString::to_string)
            ),
            known(task.polls, |n| Count(n).to_string()),
            known(task.total_ns, units::ns),
            known(task.p50_ns, units::ns),
            known(task.p99_ns, units::ns),
            known(Some(task.max_ns).filter(|ns| *ns > 0), units::ns),
            Count(task.long),
        );
    }
    html += "</tbody></table>";
    if summary.tasks.len() > MAX_ROWS {
        let _ = write!(
            html,
            "<p class=\"note\">{} more are not shown.</p>",
            summary.tasks.len() - MAX_ROWS
        );
    }
    html
}

fn known<T>(value: Option<T>, shown: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), shown)
}
