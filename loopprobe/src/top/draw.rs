//! Lays the panes out on the screen, from 80 columns and 24 rows on.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::Stylize as _,
    text::{Line, Span},
    widgets::{Block, Clear, Paragraph},
};

use crate::report::{Chosen, Count, Measured, clean};

use super::{
    State,
    keys::{HELP, HINTS},
    panes,
};

/// Draws the whole view. Readable from 80 columns and 24 rows on; smaller screens lose panes from
/// the bottom.
pub fn draw(state: &State, frame: &mut Frame<'_>) {
    let area = frame.area();
    let rows = Layout::vertical(heights(state, area.height)).split(area);
    header(state, frame, rows[0]);
    panes::workers(state, frame, rows[1]);
    let middle = Layout::horizontal([Constraint::Min(50), Constraint::Length(22)]).split(rows[2]);
    panes::tasks(state, frame, middle[0]);
    panes::histogram(state, frame, middle[1]);
    panes::polls(state, frame, rows[3]);
    panes::detail(state, frame, rows[4]);
    footer(state, frame, rows[5]);
    if state.help {
        help(frame);
    }
}

/// No pane is higher than what it has to show, and none leaves nothing to the next: the rest is for
/// the list of polls.
fn heights(state: &State, height: u16) -> [Constraint; 6] {
    let workers = (state.live.workers.len().clamp(1, 8) as u16 + 1).min(height / 5 + 1);
    let rest = height.saturating_sub(workers + 2);
    let rows = state.tasks().len().max(state.histogram().bars().len());
    let tasks = (rows.max(3) as u16).saturating_add(1).min(rest / 3);
    let detail = panes::detail_height(state).max(3).min(rest / 3 + rest % 3);
    [1, workers, tasks, rest - tasks - detail, detail, 1].map(Constraint::Length)
}

fn header(state: &State, frame: &mut Frame<'_>, area: Rect) {
    let mut line = Line::default();
    line.push_span(" loopprobe ".bold().reversed());
    if let Some(session) = &state.session {
        line.push_span(Span::raw(format!(
            " {} ({})",
            clean(&session.name),
            session.pid
        )));
        let since = state.live.time_ns.saturating_sub(session.start_ns);
        line.push_span(Span::raw(format!("  {}s", since / 1_000_000_000)));
    }
    line.push_span(Span::raw(format!(
        "  {}/s  >= {}: ",
        state
            .rate
            .map_or_else(|| "-".to_owned(), |rate| Count(rate as u64).to_string()),
        Chosen(state.threshold_ns())
    )));
    let counted = state.counted();
    line.push_span(format!("{} long", Count(counted.count)).yellow().bold());
    line.push_span(Span::raw(format!(" {}", Measured(counted.total_ns))));
    if let Some(possible) = state.live.possible {
        line.push_span(Span::raw(format!(", {} possible", Count(possible))));
    }
    if state.live.lost.events > 0 {
        line.push_span(format!("  {} lost", state.live.lost.events).red());
    }
    if state.paused {
        line.push_span("  PAUSED".cyan().bold());
    }
    if let Some(reason) = &state.ended {
        line.push_span(format!("  ENDED: {reason}").red().bold());
    }
    frame.render_widget(Paragraph::new(line), area);
}

fn footer(state: &State, frame: &mut Frame<'_>, area: Rect) {
    let line = if state.typing {
        Line::from(vec![
            "filter: ".bold(),
            Span::raw(clean(&state.filter).into_owned()),
            "_".slow_blink(),
            "  (Enter keeps it, Esc drops it)".dim(),
        ])
    } else if let Some(message) = &state.message {
        Line::from(clean(message).into_owned().cyan())
    } else if state.filter.is_empty() {
        Line::from(HINTS.dim())
    } else {
        let filter = format!(
            "filter: {}  (/ changes it, Esc drops it)",
            clean(&state.filter)
        );
        Line::from(filter.cyan())
    };
    frame.render_widget(Paragraph::new(line), area);
}

fn help(frame: &mut Frame<'_>) {
    let lines: Vec<_> = HELP
        .iter()
        .map(|(keys, what)| Line::from(vec![format!(" {keys:16}").bold(), Span::raw(*what)]))
        .collect();
    let whole = frame.area();
    let (width, height) = (
        72.min(whole.width),
        (lines.len() as u16 + 2).min(whole.height),
    );
    let area = Rect {
        x: (whole.width - width) / 2,
        y: (whole.height - height) / 2,
        width,
        height,
    };
    frame.render_widget(Clear, area);
    let block = Block::bordered().title(" Keys ");
    frame.render_widget(Paragraph::new(lines).block(block), area);
}
