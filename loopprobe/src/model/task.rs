use std::fmt;

use serde::{Deserialize, Serialize};

/// Where something is defined in source code.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SourceLocation {
    /// The path as the compiler recorded it.
    pub file: String,
    /// 1-based.
    pub line: u32,
    /// 1-based, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
}

impl fmt::Display for SourceLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// How a task's name was learnt, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NameSource {
    /// A symbol in Rust's v0 mangling, which spells the future's type.
    V0,
    /// The subprogram's name in DWARF.
    Dwarf,
    /// The functions that the poll calls, confirmed by drop glue (legacy symbols).
    Calls,
    /// The panic location that every async state machine embeds (no symbols needed).
    Location,
    /// Nothing: the name is an address and a size.
    None,
}

/// What kind of work a task type is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskKind {
    /// A task on an event loop; it must not block.
    Async,
    /// A closure on the blocking pool; it may block.
    Blocking,
    /// The future given to `block_on`; it is not a task, but it runs on the loop.
    Root,
}

/// A type of task: one future type, as far as it can be told apart from outside.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TaskType {
    /// For people: `api::upload::handle`, `api::main::{async block}`, or an address and a size.
    pub name: String,
    /// The whole name with generic arguments, where `name` had to be shortened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full_name: Option<String>,
    /// How `name` was learnt.
    pub name_source: NameSource,
    /// Whether `name` is certain.
    pub certain: bool,
    /// Async, blocking or root.
    pub kind: TaskKind,
    /// Where the future is defined.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub location: Option<SourceLocation>,
    /// The crate's name and version, where the definition is in a dependency: `hyper-util-0.1.20`.
    #[serde(rename = "crate", default, skip_serializing_if = "Option::is_none")]
    pub krate: Option<String>,
}

impl TaskType {
    /// An async task of a type that could not be told; `header` is the task's address.
    pub fn unknown(header: u64) -> Self {
        Self {
            name: format!("unknown task type (header {header:#x})"),
            full_name: None,
            name_source: NameSource::None,
            certain: false,
            kind: TaskKind::Async,
            location: None,
            krate: None,
        }
    }
}
