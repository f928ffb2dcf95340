//! What keys mean.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// What the user wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ends the session.
    Quit,
    /// Moves the selection by so many rows.
    Move(isize),
    /// The other list gets the keys.
    SwitchFocus,
    /// Lets the lists stand still, or go on; the session goes on.
    Pause,
    /// Sorts the task types by the next column.
    Sort,
    /// Begins to type a filter.
    Filter,
    /// A character of the filter.
    Type(char),
    /// Takes the filter's last character away.
    Erase,
    /// Ends typing and keeps the filter.
    Accept,
    /// Ends typing, and drops the filter.
    Clear,
    /// Doubles the threshold, or halves it.
    Threshold {
        /// Whether it grows.
        up: bool,
    },
    /// Writes a flamegraph of the session so far.
    Flamegraph,
    /// Shows or hides the list of keys.
    Help,
    /// Closes the list of keys, or else drops the filter. Never ends the session.
    Close,
}

impl Action {
    /// Whether it is done while the list of keys is open, which holds all others.
    pub fn passes_help(self) -> bool {
        matches!(self, Self::Quit | Self::Help | Self::Close)
    }
}

/// The line below the view.
pub const HINTS: &str =
    "q quit  Tab list  s sort  / filter  p pause  +/- threshold  f flamegraph  ? keys";

/// Every key, with what it does.
pub const HELP: [(&str, &str); 10] = [
    ("q, Ctrl-C", "end the session"),
    ("Esc", "close this, or drop the filter"),
    ("Tab", "choose between task types and long polls"),
    ("Up, Down, k, j", "select a row (PageUp, PageDown: ten)"),
    ("s", "sort task types: blocked, count, longest, polls"),
    ("/", "show only tasks, calls and causes that contain a text"),
    ("p, Space", "let the lists stand still; the session goes on"),
    ("+, -", "double or halve the threshold"),
    ("f", "write a flamegraph of the session so far"),
    ("?", "show or hide this"),
];

/// What a key means; nothing for most. `typing`: whether a filter is being typed.
pub fn action(key: KeyEvent, typing: bool) -> Option<Action> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    if control && key.code == KeyCode::Char('c') {
        return Some(Action::Quit);
    }
    if typing {
        typed(key.code)
    } else {
        chosen(key.code)
    }
}

fn typed(code: KeyCode) -> Option<Action> {
    match code {
        KeyCode::Char(c) => Some(Action::Type(c)),
        KeyCode::Backspace => Some(Action::Erase),
        KeyCode::Enter => Some(Action::Accept),
        KeyCode::Esc => Some(Action::Clear),
        _ => None,
    }
}

fn chosen(code: KeyCode) -> Option<Action> {
    Some(match code {
        KeyCode::Char('q') => Action::Quit,
        KeyCode::Esc => Action::Close,
        KeyCode::Tab | KeyCode::BackTab => Action::SwitchFocus,
        KeyCode::Up | KeyCode::Char('k') => Action::Move(-1),
        KeyCode::Down | KeyCode::Char('j') => Action::Move(1),
        KeyCode::PageUp => Action::Move(-10),
        KeyCode::PageDown => Action::Move(10),
        KeyCode::Char('p' | ' ') => Action::Pause,
        KeyCode::Char('s') => Action::Sort,
        KeyCode::Char('/') => Action::Filter,
        KeyCode::Char('+' | '=') => Action::Threshold { up: true },
        KeyCode::Char('-') => Action::Threshold { up: false },
        KeyCode::Char('f') => Action::Flamegraph,
        KeyCode::Char('?' | 'h') => Action::Help,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_never_ends_the_session() {
        let escape = KeyEvent::from(KeyCode::Esc);
        for typing in [false, true] {
            let meant = action(escape, typing);
            assert!(
                matches!(meant, Some(Action::Close | Action::Clear)),
                "{meant:?}"
            );
        }
    }
}
