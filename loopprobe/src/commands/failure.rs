use std::io;

use anstyle::{AnsiColor, Style};

use crate::cli::Exit;

const ERROR: Style = AnsiColor::Red.on_default().bold();

/// Tells the user what went wrong, and with which exit code to end.
pub fn report(error: &anyhow::Error) -> Exit {
    if is_closed_pipe(error) {
        return Exit::Done;
    }
    anstream::eprintln!("{ERROR}error:{ERROR:#} {error:#}");
    Exit::Failed
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
