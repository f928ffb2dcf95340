//! Whose code a frame is: the program's own, a dependency's, or plumbing that nobody blames.

use serde::{Deserialize, Serialize};

/// Whose code a frame is.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Nobody can tell.
    #[default]
    Unknown,
    /// The program's own workspace.
    Own,
    /// A library that it depends on.
    Dependency,
    /// The async runtime, and the crates that carry tasks from poll to poll.
    Runtime,
    /// The standard library, with what it bundles.
    Std,
    /// The C library, in a file of its own or linked in.
    C,
    /// The memory allocator.
    Allocator,
    /// What writes logs and traces.
    Logging,
    /// The interpreter of Python.
    #[serde(rename = "cpython")]
    CPython,
    /// The interpreter and compiler of JavaScript.
    V8,
}

impl Role {
    /// Whether nothing is known.
    pub fn is_unknown(&self) -> bool {
        *self == Self::Unknown
    }

    /// Whether nobody would change such code to mend a poll: it is folded in views and never to
    /// blame.
    pub fn is_plumbing(self) -> bool {
        !matches!(self, Self::Unknown | Self::Own | Self::Dependency)
    }

    /// Of an interpreter: its name.
    pub fn guest(self) -> Option<&'static str> {
        match self {
            Self::CPython => Some("CPython"),
            Self::V8 => Some("V8"),
            _ => None,
        }
    }
}
