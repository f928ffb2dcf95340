//! How a command ended, as a code from 0 to 4 or the code of the child that `run` started.

use std::process::ExitCode;

/// How a command ended, as its exit code tells a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It did what was asked.
    Done,
    /// It failed; the reason is on stderr.
    Failed,
    /// What was typed makes no sense.
    Usage,
    /// A poll passed the limit given with `--fail-over` or `--fail-over-wall`.
    OverLimit,
    /// Something got worse than in the recording given with `--baseline`, and no limit was passed.
    WorseThanBaseline,
    /// The exit code of the child that `run` started.
    Child(u8),
}

impl Exit {
    /// The code, as documented in the help and the man page.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::OverLimit => 3,
            Self::WorseThanBaseline => 4,
            Self::Child(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
