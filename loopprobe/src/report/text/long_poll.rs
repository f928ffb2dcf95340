//! One block, or one line, for a slow poll: when, how long, why, where, and what to do.

use std::io::{self, Write};

use super::{
    fold::{Row, fold, same, shared},
    kinds::Sums,
    stack,
    style::{ALARM, FAINT, FIX, TASK},
    width::Width,
};
use crate::{
    model::{
        Blocked, Diagnosis, LongPoll, Session, SourceLocation, Split, Stack, StackKind, TaskKind,
    },
    report::{Measured, Owner, WallClock, clean, label::owner_of_file, words},
};

/// Stacks that took less of a poll than this part are left to the JSON.
const SHOWN_SHARE: u64 = 10;
/// More stacks than this make a block that nobody reads.
const SHOWN_STACKS: usize = 3;
/// The columns of `12:00:00.000  `.
const TIME: usize = 14;

/// How a poll is shown.
#[derive(Clone, Copy)]
pub(super) struct Look<'a> {
    pub(super) clock: WallClock,
    pub(super) width: Width,
    pub(super) session: Option<&'a Session>,
}

/// One block: when, how long, why and in which call; which task; where the time went, the stacks,
/// and what to do.
pub(super) fn block(out: &mut impl Write, poll: &LongPoll, look: Look<'_>) -> io::Result<()> {
    headline(out, poll, look)?;
    let Look { width, .. } = look;
    if poll.diagnosis.is_some() {
        writeln!(out, "    {TASK}{}{TASK:#}", task(poll, width.behind(4)))?;
    }
    writeln!(out, "    {}", width.wrap(&circumstances(poll), 4))?;
    let shown = shown(poll, look.session);
    stacks(out, &shown, width)?;
    if let Some(diagnosis) = &poll.diagnosis {
        advice(out, diagnosis, &shown, width)?;
    }
    Ok(())
}

/// One line, for a poll of a kind that has been told.
pub(super) fn line(
    out: &mut impl Write,
    poll: &LongPoll,
    sums: Sums,
    look: Look<'_>,
) -> io::Result<()> {
    let time = look.clock.time_of_day(poll.start_ns);
    let duration = if poll.ended {
        format!("{:>7}", duration(poll))
    } else {
        format!("STILL POLLING for {}", Measured(poll.duration_ns))
    };
    let so_far = match sums.count {
        // None of them has ended.
        0 => String::new(),
        count => format!("  ({count} so far, {})", Measured(sums.total_ns)),
    };
    let used = TIME + duration.chars().count() + 2 + so_far.chars().count();
    let what = what(poll, look.width.behind(used));
    writeln!(
        out,
        "{time}  {ALARM}{duration}{ALARM:#}  {what}{FAINT}{so_far}{FAINT:#}"
    )
}

fn headline(out: &mut impl Write, poll: &LongPoll, look: Look<'_>) -> io::Result<()> {
    let time = look.clock.time_of_day(poll.start_ns);
    let about = duration(poll);
    let duration = Measured(poll.duration_ns);
    let how_long = match (poll.ended, poll.since_before_attach) {
        (true, false) => format!("LONG POLL  {about}"),
        (true, true) => format!("LONG POLL  at least {duration}"),
        (false, false) => format!("STILL POLLING for {duration}"),
        (false, true) => format!("STILL POLLING for at least {duration}"),
    };
    let room = look.width.behind(TIME + how_long.chars().count() + 2);
    writeln!(
        out,
        "{time}  {ALARM}{how_long}{ALARM:#}  {}",
        what(poll, room)
    )
}

/// `25.1ms`; between bounds `25.1ms (24.6 to 25.9)`, or `at least 24.6ms` where the upper one is
/// not known, or says little.
fn duration(poll: &LongPoll) -> String {
    let lo_ns = poll.duration_ns;
    let Some(bounds) = poll.bounds else {
        return Measured(lo_ns).to_string();
    };
    let Some(hi_ns) = bounds.duration_hi_ns.filter(|hi_ns| *hi_ns / 2 <= lo_ns) else {
        return format!("at least {}", Measured(lo_ns));
    };
    let lo = Measured(lo_ns).to_string();
    let hi = Measured(hi_ns).to_string();
    if lo == hi {
        return lo;
    }
    let middle = Measured(lo_ns + hi_ns.saturating_sub(lo_ns) / 2).to_string();
    let unit = |text: &str| {
        text.trim_start_matches(|c: char| !c.is_alphabetic())
            .to_owned()
    };
    let bare = |text: &str| text.trim_end_matches(char::is_alphabetic).to_owned();
    if unit(&lo) == unit(&hi) && unit(&lo) == unit(&middle) {
        format!("{middle} ({} to {})", bare(&lo), bare(&hi))
    } else {
        format!("{middle} ({lo} to {hi})")
    }
}

/// `file I/O in api::store`; of a poll without a diagnosis, which task it is.
fn what(poll: &LongPoll, room: Width) -> String {
    let Some(diagnosis) = &poll.diagnosis else {
        return task(poll, room);
    };
    let cause = words::cause(diagnosis.cause);
    let Some(call) = &diagnosis.call else {
        return cause.to_owned();
    };
    let before = format!("{cause} in ");
    let call = clean(&call.function);
    format!("{before}{}", room.behind(before.chars().count()).fit(&call))
}

/// `task 1423  api::upload::handle  src/upload.rs:42`.
fn task(poll: &LongPoll, room: Width) -> String {
    let id = match (poll.task_id, poll.task.kind) {
        (Some(id), _) => format!("task {id}  "),
        (None, TaskKind::Root) => "root future: ".to_owned(),
        (None, TaskKind::Async | TaskKind::Blocking) => String::new(),
    };
    let room = room.behind(id.chars().count());
    let name = words::task_name(&poll.task);
    let name = match words::place_beside(&name, poll.task.location.as_ref()) {
        Some(place) => room.fit_pair(&name, &place),
        None => room.fit(&name).into_owned(),
    };
    format!("{id}{name}")
}

/// `thread worker/9: 811.9ms blocked, 0.3ms on CPU; path /var/data/big.bin, syscall read`.
fn circumstances(poll: &LongPoll) -> String {
    let mut text = format!("thread {}/{}", clean(&poll.thread), poll.tid);
    let mut parts: Vec<String> = Vec::new();
    parts.extend(poll.split.map(split));
    parts.extend(poll.diagnosis.as_ref().and_then(evidence));
    if poll.since_before_attach {
        parts.push("open since before the attach".to_owned());
    }
    if poll.block_in_place {
        parts.push("in block_in_place, which is allowed to block".to_owned());
    }
    if !parts.is_empty() {
        text = format!("{text}: {}", parts.join("; "));
    }
    text
}

fn split(split: Split) -> String {
    let parts = [
        (split.blocked_ns, "blocked"),
        (split.on_cpu_ns, "on CPU"),
        (split.runnable_ns, "waiting for a CPU"),
    ];
    let words: Vec<String> = parts
        .into_iter()
        .filter(|(ns, _)| *ns > 0)
        .map(|(ns, word)| format!("{} {word}", Measured(ns)))
        .collect();
    words.join(", ")
}

fn evidence(diagnosis: &Diagnosis) -> Option<String> {
    /// Said already: in the split, and by the first frame of the stack.
    const SHOWN_ELSEWHERE: [&str; 2] = ["ns", "function"];
    let facts: Vec<String> = diagnosis
        .evidence
        .iter()
        .filter(|(name, _)| !SHOWN_ELSEWHERE.contains(&name.as_str()))
        .map(|(name, value)| format!("{} {}", clean(&name.replace('_', " ")), clean(value)))
        .collect();
    (!facts.is_empty()).then(|| facts.join(", "))
}

/// What was done with the time, for stacks that look alike.
struct Shown<'a> {
    rows: Vec<Row<'a>>,
    /// Longest first.
    stacks: Vec<&'a Stack>,
    ns: u64,
}

fn stacks(out: &mut impl Write, shown: &[Shown<'_>], width: Width) -> io::Result<()> {
    for (index, stack) in shown.iter().enumerate() {
        // The only one stands for what was said above.
        if shown.len() > 1 {
            let title = width.wrap(&stack.title(), 4);
            writeln!(out, "    {FAINT}{title}{FAINT:#}")?;
        } else if let Some(shortfall) = stack.shortfall() {
            writeln!(out, "    {FAINT}{shortfall}{FAINT:#}")?;
        }
        let above = match index {
            0 => 0,
            _ => shared(&stack.rows, &shown[0].rows),
        };
        let own = &stack.rows[..stack.rows.len() - above];
        stack::write(out, own, width)?;
        if above > 0 {
            writeln!(out, "      {FAINT}called as above{FAINT:#}")?;
        }
    }
    Ok(())
}

/// Those worth showing, longest first. Stacks that would show the same rows are one: samples differ
/// in the last instruction, and one call may wait in several ways.
fn shown<'a>(poll: &'a LongPoll, session: Option<&Session>) -> Vec<Shown<'a>> {
    let diagnosis = poll.diagnosis.as_ref();
    let call = diagnosis.and_then(|d| d.call.as_ref());
    let blamed = call.map(|call| call.function.as_str());
    let mut shown: Vec<Shown<'_>> = Vec::new();
    for stack in poll.stacks.iter().filter(|stack| !stack.frames.is_empty()) {
        let rows = fold(&stack.frames, blamed, session);
        match shown.iter_mut().find(|other| same(&rows, &other.rows)) {
            Some(other) => {
                other.ns += stack.ns;
                other.stacks.push(stack);
            }
            None => shown.push(Shown {
                rows,
                stacks: vec![stack],
                ns: stack.ns,
            }),
        }
    }
    shown.retain(|stack| stack.ns >= poll.duration_ns / SHOWN_SHARE);
    shown.sort_by_key(|stack| std::cmp::Reverse(stack.ns));
    shown.truncate(SHOWN_STACKS);
    shown
}

impl Shown<'_> {
    /// `48.0ms blocked in write, 12.1ms blocked in fsync`.
    fn title(&self) -> String {
        let mut ways: Vec<(StackKind, Option<&str>, u64)> = Vec::new();
        for stack in &self.stacks {
            let syscall = stack.syscall.as_deref();
            match ways
                .iter_mut()
                .find(|way| (way.0, way.1) == (stack.kind, syscall))
            {
                Some((_, _, ns)) => *ns += stack.ns,
                None => ways.push((stack.kind, syscall, stack.ns)),
            }
        }
        ways.sort_by_key(|(_, _, ns)| std::cmp::Reverse(*ns));
        let ways = ways.into_iter().map(|(kind, syscall, ns)| {
            let inside = syscall.map_or_else(String::new, |name| format!(" in {}", clean(name)));
            format!("{} {}{inside}", Measured(ns), words::stack_kind(kind))
        });
        let mut title = ways.collect::<Vec<_>>().join(", ");
        if let Some(shortfall) = self.shortfall() {
            title = format!("{title}; {shortfall}");
        }
        title
    }

    /// Of the one that stood longest.
    fn shortfall(&self) -> Option<&'static str> {
        let longest = self.stacks.iter().max_by_key(|stack| stack.ns)?;
        stack::shortfall(longest.outcome)
    }
}

fn advice(
    out: &mut impl Write,
    diagnosis: &Diagnosis,
    shown: &[Shown<'_>],
    width: Width,
) -> io::Result<()> {
    if let Some(innermost) = &diagnosis.innermost
        && is_worth_saying(innermost, diagnosis, shown)
    {
        let label = "async body: ";
        let room = width.behind(4 + label.len());
        writeln!(out, "    {label}{}", named(innermost, room))?;
    }
    if diagnosis.advice.is_empty() {
        return Ok(());
    }
    let advice = width.wrap(&clean(&diagnosis.advice), 9);
    writeln!(out, "    {FIX}fix:{FIX:#} {advice}")
}

/// The awaited child says whose operation it was, unless a row says so already, or it is some
/// library's plumbing.
fn is_worth_saying(innermost: &Blocked, diagnosis: &Diagnosis, shown: &[Shown<'_>]) -> bool {
    let is_call = diagnosis.call.as_ref().map(|call| &call.function) == Some(&innermost.function);
    let is_shown = |row: &Row<'_>| match row {
        Row::Own(frame) | Row::Other(frame) => {
            frame.function.as_ref() == Some(&innermost.function)
                || innermost.location.is_some() && frame.definition == innermost.location
        }
        Row::Folded(_) => false,
    };
    let is_own = |place: &SourceLocation| owner_of_file(&place.file) == Owner::Own;
    !is_call
        && innermost.location.as_ref().is_none_or(is_own)
        && !shown.iter().flat_map(|shown| &shown.rows).any(is_shown)
}

fn named(function: &Blocked, room: Width) -> String {
    let name = clean(&function.function);
    match words::place_beside(&name, function.location.as_ref()) {
        Some(place) => room.fit_pair(&name, &place),
        None => room.fit(&name).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(lo_ns: u64, hi_ns: Option<u64>) -> String {
        let poll = serde_json::json!({
            "pid": 1, "tid": 1, "thread": "worker", "task_id": 7, "start_ns": 1, "ended": true, "duration_ns": lo_ns,
            "duration_lo_ns": lo_ns, "duration_hi_ns": hi_ns, "certain": true,
            "task": {"name": "x", "name_source": "none", "certain": true, "kind": "async"},
        });
        duration(&serde_json::from_value(poll).unwrap())
    }

    #[test]
    fn a_duration_between_bounds_says_both() {
        let (lo_ns, hi_ns) = (24_600_000, 25_600_000);
        assert_eq!(watched(lo_ns, Some(hi_ns)), "25.1ms (24.6 to 25.6)");
        assert_eq!(
            watched(900_000, Some(1_100_000)),
            "1.00ms (900.0us to 1.10ms)"
        );
        assert_eq!(watched(lo_ns, Some(lo_ns + 1)), "24.6ms");
    }

    #[test]
    fn an_upper_bound_that_says_little_is_left_out() {
        assert_eq!(watched(24_600_000, None), "at least 24.6ms");
        assert_eq!(watched(24_600_000, Some(60_000_000)), "at least 24.6ms");
    }
}
