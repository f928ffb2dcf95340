//! In a system call below a synchronous library such as SQLite, RocksDB or libpq.

use super::{Colour, Rule};
use crate::{diagnose::operation::Operation, model::Cause};

/// A database that works inside the program or is asked synchronously.
pub(super) const RULE: Rule = Rule {
    cause: Cause::Database,
    label: "database",
    colour: Colour::File,
    recognised: "in a system call below a synchronous database library (SQLite, RocksDB, LMDB, sled, redb, libpq, ...): its files, its naps while others hold its locks",
    advice: "call the database in tokio::task::spawn_blocking or from a thread of its own; keep transactions of other connections short",
    applies: |moment| {
        matches!(moment.operation, Some(Operation::Database(_)))
            && (moment.is_blocked() || moment.syscall.is_some())
    },
};
