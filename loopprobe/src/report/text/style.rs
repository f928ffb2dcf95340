//! Colours, chosen so that they read on light and dark terminals.

use anstyle::{AnsiColor, Effects, Style};

pub const ALARM: Style = AnsiColor::Red.on_default().effects(Effects::BOLD);
pub const TASK: Style = Style::new().bold();
pub const OWN: Style = AnsiColor::Cyan.on_default();
pub const FIX: Style = AnsiColor::Green.on_default();
pub const NOTE: Style = AnsiColor::Yellow.on_default();
pub const FAINT: Style = Style::new().dimmed();
