//! The parts of the view.

use std::time::Duration;

use ratatui::{
    Frame,
    layout::{Constraint, Rect},
    style::{Modifier, Style, Stylize as _},
    text::{Line, Span},
    widgets::{Cell, Paragraph, Row, Table, TableState, Wrap},
};

use unicode_width::UnicodeWidthStr as _;

use crate::{
    model::{Frame as StackFrame, LongPoll, Stack, Worker},
    report::{Chosen, Count, Measured, clean, end_of, frame_name, words},
};

use super::{Focus, State};

const CHOSEN: Style = Style::new().add_modifier(Modifier::REVERSED);

/// The workers: how busy, and what they are polling.
pub(super) fn workers(state: &State, frame: &mut Frame<'_>, area: Rect) {
    let room = usize::from(area.height.saturating_sub(1));
    let mut workers: Vec<&Worker> = state.live.workers.iter().collect();
    // Those with the oldest open poll matter most when there is no room for all.
    workers.sort_by_key(|w| {
        (
            w.poll
                .as_ref()
                .and_then(|poll| poll.start_ns)
                .unwrap_or(u64::MAX),
            w.tid,
        )
    });
    workers.truncate(room);
    workers.sort_by_key(|worker| worker.tid);
    let mut heading = format!("Workers ({})", state.live.workers.len());
    if let Some(tasks) = state.live.interval.active_tasks {
        heading.push_str(&format!(", live tasks {}", Count(tasks)));
    }
    if let Some(delays) = &state.live.interval.wake_to_poll {
        heading.push_str(&format!(", {}", words::wake_to_poll(delays)));
    }
    let mut lines = vec![title(heading, false)];
    let columns = usize::from(area.width);
    lines.extend(
        workers
            .into_iter()
            .map(|worker| worker_line(state, worker, columns)),
    );
    frame.render_widget(Paragraph::new(lines), area);
}

fn worker_line(state: &State, worker: &Worker, columns: usize) -> Line<'static> {
    let share = state.busy.share(worker.tid);
    let name = format!("{:>7} {:<15} ", worker.tid, clean(&worker.thread));
    let mut line = Line::from(vec![
        Span::raw(name),
        Span::raw(bar(share.unwrap_or(0.0), 8)).green(),
        Span::raw(match share {
            Some(share) => format!(" {:>3.0}% ", share * 100.0),
            None if state.live.polls.is_none() => "    - ".to_owned(),
            None => "    ? ".to_owned(),
        }),
    ]);
    if let Some(poll) = &worker.poll {
        let age = poll
            .start_ns
            .map(|start_ns| state.live.time_ns.saturating_sub(start_ns));
        let id = poll.task_id.map_or(String::new(), |id| format!(" #{id}"));
        let long = age.is_some_and(|age| age >= state.live.threshold_ns);
        let age = age.map_or_else(|| "-".to_owned(), |age| Measured(age).to_string());
        let style = if long {
            Style::new().red().bold()
        } else {
            Style::new()
        };
        let what = if worker.blocked { "blocked" } else { "polling" };
        line.push_span(Span::styled(format!("{what} {age:>7} "), style));
        let room = columns.saturating_sub(line.width() + id.len());
        let task = Span::raw(format!("{}{id}", end_of(&clean(&poll.task), room)));
        line.push_span(if state.matches(&poll.task) {
            task
        } else {
            task.dim()
        });
    }
    line
}

/// `####......`, in eighths of a character.
fn bar(share: f64, width: usize) -> String {
    const PARTS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    let eighths = (share.clamp(0.0, 1.0) * width as f64 * 8.0).round() as usize;
    let mut text = "█".repeat(eighths / 8);
    if text.chars().count() < width {
        text.push(PARTS[eighths % 8]);
    }
    let missing = width - text.chars().count();
    text + &" ".repeat(missing)
}

/// Task types by blocked time.
pub(super) fn tasks(state: &State, frame: &mut Frame<'_>, area: Rect) {
    let focused = state.focus == Focus::Tasks;
    // What the other columns and the gaps between them leave.
    let room = usize::from(area.width).saturating_sub(7 + 5 + 7 + 9 + 4);
    let rows = state.tasks().into_iter().map(|task| {
        Row::new([
            Cell::new(Measured(task.blocked_ns).to_string()),
            Cell::new(Count(task.long).to_string()),
            Cell::new(Measured(task.max_ns).to_string()),
            Cell::new(
                task.polls
                    .map_or_else(|| "-".to_owned(), |polls| Count(polls).to_string()),
            ),
            Cell::new(end_of(&clean(&task.name), room)),
        ])
    });
    let widths = [
        Constraint::Length(7),
        Constraint::Length(5),
        Constraint::Length(7),
        Constraint::Length(9),
        Constraint::Min(10),
    ];
    let name = format!("Task types by {}", state.sort.title());
    let header = Row::new([
        Line::from("blocked"),
        Line::from("long"),
        Line::from("longest"),
        Line::from("polls"),
        title(name, focused),
    ]);
    let table = Table::new(rows, widths)
        .header(header.bold())
        .row_highlight_style(if focused { CHOSEN } else { Style::new() });
    let mut selection = TableState::new().with_selected(Some(state.selected_task()));
    frame.render_stateful_widget(table, area, &mut selection);
}

/// Long polls by duration.
pub(super) fn histogram(state: &State, frame: &mut Frame<'_>, area: Rect) {
    let mut bars = state.histogram().bars();
    let room = usize::from(area.height.saturating_sub(1));
    // The longest polls matter most when there is no room for all.
    let first = bars.len().saturating_sub(room);
    bars.drain(..first);
    let most = bars.iter().map(|bar| bar.2).max().unwrap_or(0).max(1);
    let mut lines = vec![title("Durations".to_owned(), false)];
    for (low, _, count) in bars {
        lines.push(Line::from(vec![
            Span::raw(format!("{:>6} ", Chosen(low).to_string())),
            Span::raw(bar(count as f64 / most as f64, 8)).yellow(),
            Span::raw(format!(" {}", Count(count))),
        ]));
    }
    frame.render_widget(Paragraph::new(lines), area);
}

/// Long polls, newest first. A narrow screen has room for the call alone; its task is told below.
pub(super) fn polls(state: &State, frame: &mut Frame<'_>, area: Rect) {
    const WIDE: u16 = 110;
    const TIMES: u16 = 7 + 9;
    let focused = state.focus == Focus::Polls;
    let wide = area.width >= WIDE;
    let polls = state.polls();
    let widest = polls.iter().map(|(_, poll)| cause(poll).width()).max();
    let cause_width = (widest.unwrap_or(0) as u16).max(13).min(area.width / 4 + 1);
    let rest = area.width.saturating_sub(TIMES + cause_width + 3);
    let name = if wide {
        rest.saturating_sub(1) / 2
    } else {
        rest
    };
    let rows = polls
        .iter()
        .map(|(_, poll)| poll_row(state, poll, usize::from(name), wide));
    let mut widths = vec![7, 9, cause_width, name];
    let mut header = vec![
        Line::from("at"),
        Line::from("duration"),
        Line::from("cause"),
        title(format!("Long polls ({}), by call", polls.len()), focused),
    ];
    if wide {
        widths.push(name);
        header.push(Line::from("task"));
    }
    let table = Table::new(rows, widths.into_iter().map(Constraint::Length))
        .header(Row::new(header).bold())
        .row_highlight_style(if focused { CHOSEN } else { Style::new() });
    let mut selection = TableState::new().with_selected(Some(state.selected_poll()));
    frame.render_stateful_widget(table, area, &mut selection);
}

fn cause(poll: &LongPoll) -> &'static str {
    let diagnosis = poll.diagnosis.as_ref();
    diagnosis.map_or("?", |diagnosis| words::cause(diagnosis.cause))
}

fn poll_row(state: &State, poll: &LongPoll, name: usize, wide: bool) -> Row<'static> {
    let start = state.session.as_ref().map_or(0, |session| session.start_ns);
    let at = Duration::from_nanos(poll.start_ns.saturating_sub(start));
    let call = poll.diagnosis.as_ref().and_then(|d| d.call.as_ref());
    let more = if poll.ended { "" } else { "+" };
    let task = end_of(&clean(&poll.task.name), name);
    let call = match call {
        Some(call) => end_of(&clean(&call.function), name),
        None if wide => "-".to_owned(),
        None => task.clone(),
    };
    let mut cells = vec![
        Cell::new(format!("{:.1}s", at.as_secs_f64())),
        Cell::new(format!("{}{more}", Measured(poll.duration_ns))),
        Cell::new(cause(poll)),
        Cell::new(call),
    ];
    if wide {
        cells.push(Cell::new(task));
    }
    Row::new(cells)
}

/// The chosen poll: cause, advice, stack.
pub(super) fn detail(state: &State, frame: &mut Frame<'_>, area: Rect) {
    let polls = state.polls();
    let Some((_, poll)) = polls.get(state.selected_poll()) else {
        let text = "No long poll yet.".dim();
        frame.render_widget(Paragraph::new(text), area);
        return;
    };
    let lines = detail_lines(poll, usize::from(area.height), usize::from(area.width));
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }), area);
}

/// How many rows the chosen poll takes when nothing is left out.
pub(super) fn detail_height(state: &State) -> u16 {
    let polls = state.polls();
    let Some((_, poll)) = polls.get(state.selected_poll()) else {
        return 1;
    };
    // What it is and what to do may take two rows each.
    let frames = longest(poll).map_or(1, |stack| stack.frames.len());
    u16::try_from(frames).unwrap_or(u16::MAX).saturating_add(4)
}

fn longest(poll: &LongPoll) -> Option<&Stack> {
    poll.stacks.iter().max_by_key(|stack| stack.ns)
}

fn detail_lines(poll: &LongPoll, room: usize, columns: usize) -> Vec<Line<'static>> {
    let mut lines = vec![what(poll)];
    if let Some(diagnosis) = poll.diagnosis.as_ref().filter(|d| !d.advice.is_empty()) {
        lines.push(Line::from(vec![
            "fix: ".green().bold(),
            clean(&diagnosis.advice).into_owned().green(),
        ]));
    }
    match longest(poll) {
        None => lines.push(Line::from("no stack was taken".dim())),
        Some(stack) => {
            // The runtime's frames go first where there is no room for all.
            let room = room.saturating_sub(lines.len()).max(1);
            let own: Vec<_> = stack.frames.iter().filter(|frame| !frame.runtime).collect();
            let all: Vec<_> = stack.frames.iter().collect();
            let frames = if all.len() <= room || own.is_empty() {
                all
            } else {
                own
            };
            let shown = frames.into_iter().take(room);
            lines.extend(shown.map(|frame| frame_line(frame, columns)));
        }
    }
    lines
}

fn what(poll: &LongPoll) -> Line<'static> {
    let mut line = Line::from(Span::raw(clean(&poll.task.name).into_owned()).bold());
    if let Some(place) = &poll.task.location {
        line.push_span(Span::raw(format!(" {}", clean(&place.to_string()))).dim());
    }
    line.push_span(Span::raw(format!(
        " on {} {}",
        clean(&poll.thread),
        poll.tid
    )));
    if let Some(split) = poll.split {
        line.push_span(Span::raw(format!(
            ": {} blocked, {} on CPU, {} waiting for a CPU",
            Measured(split.blocked_ns),
            Measured(split.on_cpu_ns),
            Measured(split.runnable_ns)
        )));
    }
    line
}

/// A frame's function, and its place where there is room for both.
fn frame_line(frame: &StackFrame, columns: usize) -> Line<'static> {
    let name = end_of(&frame_name(frame), columns.saturating_sub(2));
    let mut line = Line::from(format!("  {name}"));
    if let Some(place) = &frame.location {
        let place = format!("  {}", words::place(place));
        if line.width() + place.width() <= columns {
            line.push_span(Span::raw(place).dim());
        }
    }
    if frame.runtime { line.dim() } else { line }
}

/// A pane's title; the one that gets the keys stands out.
fn title(text: String, focused: bool) -> Line<'static> {
    let style = if focused {
        Style::new().add_modifier(Modifier::BOLD | Modifier::UNDERLINED)
    } else {
        Style::new().add_modifier(Modifier::BOLD)
    };
    Line::styled(text, style)
}
