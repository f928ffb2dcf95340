//! The parts of the view.

use std::time::Duration;

use ratatui::{
    Frame,
    layout::{Constraint, Rect},
    style::{Modifier, Style, Stylize as _},
    text::{Line, Span},
    widgets::{Cell, Paragraph, Row, Table, TableState, Wrap},
};

use crate::{
    model::{Frame as StackFrame, LongPoll, Worker},
    report::{Chosen, Count, Measured, clean, frame_name, words},
};

use super::{Focus, State, draw::title};

const CHOSEN: Style = Style::new().add_modifier(Modifier::REVERSED);

/// The workers: how busy, and what they are polling.
pub fn workers(state: &State, frame: &mut Frame<'_>, area: Rect) {
    let room = usize::from(area.height.saturating_sub(1));
    let mut workers: Vec<&Worker> = state.live.workers.iter().collect();
    // Those with the oldest open poll matter most when there is no room for all.
    workers.sort_by_key(|w| {
        (
            w.poll.as_ref().map_or(u64::MAX, |poll| poll.start_ns),
            w.tid,
        )
    });
    workers.truncate(room);
    workers.sort_by_key(|worker| worker.tid);
    let mut lines = vec![title(
        format!("Workers ({})", state.live.workers.len()),
        false,
    )];
    lines.extend(workers.into_iter().map(|worker| worker_line(state, worker)));
    frame.render_widget(Paragraph::new(lines), area);
}

fn worker_line(state: &State, worker: &Worker) -> Line<'static> {
    let share = state.busy.share(worker.tid);
    let name = format!("{:>7} {:<15} ", worker.tid, clean(&worker.thread));
    let mut line = Line::from(vec![
        Span::raw(name),
        Span::raw(bar(share.unwrap_or(0.0), 8)).green(),
        Span::raw(match share {
            Some(share) => format!(" {:>3.0}% ", share * 100.0),
            None => "    ? ".to_owned(),
        }),
    ]);
    if let Some(poll) = &worker.poll {
        let age = state.live.time_ns.saturating_sub(poll.start_ns);
        let id = poll.task_id.map_or(String::new(), |id| format!(" #{id}"));
        let long = age >= state.live.threshold_ns;
        let style = if long {
            Style::new().red().bold()
        } else {
            Style::new()
        };
        let what = if worker.blocked { "blocked" } else { "polling" };
        line.push_span(Span::styled(format!("{what} {:>7} ", Measured(age)), style));
        line.push_span(Span::raw(format!("{}{id}", clean(&poll.task))));
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
pub fn tasks(state: &State, frame: &mut Frame<'_>, area: Rect) {
    let focused = state.focus == Focus::Tasks;
    let rows = state.tasks().into_iter().map(|task| {
        Row::new([
            Cell::new(Measured(task.blocked_ns).to_string()),
            Cell::new(Count(task.long).to_string()),
            Cell::new(Measured(task.max_ns).to_string()),
            Cell::new(Count(task.polls).to_string()),
            Cell::new(clean(&task.name).into_owned()),
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
pub fn histogram(state: &State, frame: &mut Frame<'_>, area: Rect) {
    let mut bars = state.histogram.bars();
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

/// Long polls, newest first.
pub fn polls(state: &State, frame: &mut Frame<'_>, area: Rect) {
    let focused = state.focus == Focus::Polls;
    let polls = state.polls();
    let rows = polls.iter().map(|(_, poll)| poll_row(state, poll));
    let widths = [
        Constraint::Length(7),
        Constraint::Length(9),
        Constraint::Length(13),
        Constraint::Min(16),
        Constraint::Min(16),
    ];
    let header = Row::new([
        Line::from("at"),
        Line::from("duration"),
        Line::from("cause"),
        title(format!("Long polls ({})", polls.len()), focused),
        Line::from("call"),
    ]);
    let table = Table::new(rows, widths)
        .header(header.bold())
        .row_highlight_style(if focused { CHOSEN } else { Style::new() });
    let mut selection = TableState::new().with_selected(Some(state.selected_poll()));
    frame.render_stateful_widget(table, area, &mut selection);
}

fn poll_row(state: &State, poll: &LongPoll) -> Row<'static> {
    let start = state.session.as_ref().map_or(0, |session| session.start_ns);
    let at = Duration::from_nanos(poll.start_ns.saturating_sub(start));
    let diagnosis = poll.diagnosis.as_ref();
    let call = diagnosis.and_then(|diagnosis| diagnosis.call.as_ref());
    let more = if poll.ended { "" } else { "+" };
    Row::new([
        Cell::new(format!("{:.1}s", at.as_secs_f64())),
        Cell::new(format!("{}{more}", Measured(poll.duration_ns))),
        Cell::new(diagnosis.map_or("?", |diagnosis| words::cause(diagnosis.cause))),
        Cell::new(clean(&poll.task.name).into_owned()),
        Cell::new(call.map_or(String::new(), |call| clean(&call.function).into_owned())),
    ])
}

/// The chosen poll: cause, advice, stack.
pub fn detail(state: &State, frame: &mut Frame<'_>, area: Rect) {
    let polls = state.polls();
    let Some((_, poll)) = polls.get(state.selected_poll()) else {
        let text = "No long poll yet.".dim();
        frame.render_widget(Paragraph::new(text), area);
        return;
    };
    let lines = detail_lines(poll, usize::from(area.height));
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }), area);
}

fn detail_lines(poll: &LongPoll, room: usize) -> Vec<Line<'static>> {
    let mut lines = vec![what(poll)];
    if let Some(diagnosis) = poll.diagnosis.as_ref().filter(|d| !d.advice.is_empty()) {
        lines.push(Line::from(vec![
            "fix: ".green().bold(),
            clean(&diagnosis.advice).into_owned().green(),
        ]));
    }
    match poll.stacks.iter().max_by_key(|stack| stack.ns) {
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
            lines.extend(frames.into_iter().take(room).map(frame_line));
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

fn frame_line(frame: &StackFrame) -> Line<'static> {
    let mut line = Line::from(format!("  {}", frame_name(frame)));
    if let Some(place) = &frame.location {
        line.push_span(Span::raw(format!("  {}", clean(&place.to_string()))).dim());
    }
    if frame.runtime { line.dim() } else { line }
}
