//! Errors as a sentence for the user and an exit code; a reader that has gone is no failure.

use std::io;

use super::say;
use crate::{cli::Exit, report::clean};

/// What was typed makes no sense, in a way that only shows once it is looked at together.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct WrongUsage(pub String);

/// Refuses what was typed, if there is a reason to.
///
/// # Errors
/// [`WrongUsage`].
pub(super) fn refuse(reason: Option<String>) -> anyhow::Result<()> {
    match reason {
        Some(reason) => Err(WrongUsage(reason).into()),
        None => Ok(()),
    }
}

/// Tells the user what went wrong, and with which exit code to end.
pub(super) fn report(error: &anyhow::Error) -> Exit {
    if is_closed_pipe(error) {
        return Exit::Done;
    }
    // It may name paths and threads of the target. The verifier's log has lines.
    let said = sentence(error);
    let lines: Vec<_> = said.lines().map(clean).collect();
    say::error(&lines.join("\n"));
    if error.is::<WrongUsage>() {
        return Exit::Usage;
    }
    Exit::Failed
}

/// The error and its causes. Many an error says in its own words what its cause is; that is not
/// said twice.
pub(super) fn sentence(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |said, cause| {
        let cause = cause.to_string();
        match said.as_str() {
            "" => cause,
            _ if said.contains(&cause) => said,
            _ => format!("{said}: {cause}"),
        }
    })
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;
    use crate::collect::ObserveError;

    #[test]
    fn a_cause_is_said_once() {
        let full = || io::Error::new(io::ErrorKind::StorageFull, "/x/a.svg: no space");
        let known = anyhow::Error::from(ObserveError::Output(full()));
        assert_eq!(
            sentence(&known),
            "cannot write the output: /x/a.svg: no space"
        );
        let context = Err::<(), _>(full()).context("cannot draw").unwrap_err();
        assert_eq!(sentence(&context), "cannot draw: /x/a.svg: no space");
    }
}
