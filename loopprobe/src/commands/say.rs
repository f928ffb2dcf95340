//! What is said on standard error: with colours on a terminal, with priorities in systemd's
//! journal.

use std::{io, sync::LazyLock};

use anstyle::{AnsiColor, Style};

use crate::export::systemd::{Priority, is_journal};

const ERROR: Style = AnsiColor::Red.on_default().bold();
const WARNING: Style = AnsiColor::Yellow.on_default().bold();

static IN_JOURNAL: LazyLock<bool> = LazyLock::new(|| is_journal(&io::stderr()));

/// Something failed.
pub(super) fn error(message: &str) {
    labelled(Priority::Error, ERROR, "error", message);
}

/// A limit was not kept.
pub(super) fn failed(message: &str) {
    labelled(Priority::Error, ERROR, "failed", message);
}

/// Something is not as it should be.
pub(super) fn warning(message: &str) {
    labelled(Priority::Warning, WARNING, "warning", message);
}

/// Something that is good to know.
pub(super) fn remark(message: &str) {
    write(Priority::Info, message);
}

fn labelled(priority: Priority, style: Style, label: &str, message: &str) {
    write(priority, &format!("{style}{label}:{style:#} {message}"));
}

fn write(priority: Priority, message: &str) {
    if *IN_JOURNAL {
        let lines: Vec<_> = message
            .lines()
            .map(|line| format!("{priority}{line}"))
            .collect();
        anstream::eprintln!("{}", lines.join("\n"));
    } else {
        anstream::eprintln!("{message}");
    }
}
