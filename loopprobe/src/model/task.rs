//! A future's type as told from outside: its name, how that was learnt, and where it is defined.

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
        write!(f, "{}:{}", self.short_file(), self.line)
    }
}

impl SourceLocation {
    /// The path for people: a dependency's begins with its crate and version
    /// (`axum-0.8.9/src/serve/mod.rs`), the standard library's with `library/`. Other paths stay as
    /// they are.
    pub fn short_file(&self) -> &str {
        let below = |folder: &str, levels: usize| {
            let (_, mut rest) = self.file.split_once(folder)?;
            for _ in 0..levels {
                (_, rest) = rest.split_once('/')?;
            }
            Some(rest)
        };
        // Cargo's folder of unpacked crates has one folder a registry; the compiler's own paths
        // begin with its commit.
        below("/registry/src/", 1)
            .or_else(|| below("/git/checkouts/", 0))
            .or_else(|| below("/rustc/", 1).filter(|_| self.file.starts_with("/rustc/")))
            .unwrap_or(&self.file)
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
    /// An async task of which nothing has told the type.
    pub fn unseen() -> Self {
        Self {
            name: "unknown task type".into(),
            ..Self::unknown(0)
        }
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(file: &str) -> String {
        let file = file.to_owned();
        SourceLocation {
            file,
            line: 7,
            column: Some(1),
        }
        .to_string()
    }

    #[test]
    fn paths_begin_where_they_mean_something() {
        let cargo = "/home/a/.cargo/registry/src/registry-0123/axum-0.8.9/src/serve/mod.rs";
        assert_eq!(shown(cargo), "axum-0.8.9/src/serve/mod.rs:7");
        assert_eq!(
            shown("/rustc/0123/library/std/src/fs.rs"),
            "library/std/src/fs.rs:7"
        );
        assert_eq!(
            shown("/home/a/.cargo/git/checkouts/x-01/ab/src/x.rs"),
            "x-01/ab/src/x.rs:7"
        );
        assert_eq!(shown("src/main.rs"), "src/main.rs:7");
        assert_eq!(shown("/registry/src/"), "/registry/src/:7");
    }
}
