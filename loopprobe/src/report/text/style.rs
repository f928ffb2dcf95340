//! Colours, chosen so that they read on light and dark terminals.

use anstyle::{AnsiColor, Effects, Style};

pub(super) const ALARM: Style = AnsiColor::Red.on_default().effects(Effects::BOLD);
pub(super) const TASK: Style = Style::new().bold();
pub(super) const OWN: Style = AnsiColor::Cyan.on_default();
pub(super) const FIX: Style = AnsiColor::Green.on_default();
pub(super) const NOTE: Style = AnsiColor::Yellow.on_default();
pub(super) const FAINT: Style = Style::new().dimmed();
