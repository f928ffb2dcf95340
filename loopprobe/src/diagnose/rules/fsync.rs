//! Waiting for data to reach the disk: in sync, msync and their relatives.

use super::{Colour, Rule};
use crate::{diagnose::syscall::Waits, model::Cause};

/// The disk.
pub(super) const RULE: Rule = Rule {
    cause: Cause::Fsync,
    label: "fsync",
    colour: Colour::File,
    recognised: "in fsync, fdatasync, sync, syncfs, sync_file_range or msync, blocked or on the CPU",
    advice: "call sync_all or sync_data of tokio::fs::File, or flush in tokio::task::spawn_blocking",
    applies: |moment| moment.waits() == Some(Waits::Sync),
};
