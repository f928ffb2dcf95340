//! Freeing a large value: on the CPU in drop glue or in an allocator's freeing half.

use super::{Colour, Rule};
use crate::{
    diagnose::Moment,
    model::{Cause, Role},
};

/// Dropping a value that owns many others.
pub(super) const RULE: Rule = Rule {
    cause: Cause::Drop,
    label: "dropping",
    colour: Colour::Cpu,
    recognised: "on the CPU in drop glue, or in the part of an allocator that takes memory back, by name or by how all code calls it",
    advice: "a large value is dropped here: hand it to tokio::task::spawn_blocking(move || drop(value)), or to a thread that drops",
    applies: |moment| moment.is_on_cpu() && is_dropping(moment),
};

/// How the functions of allocators are called that take memory back.
const FREEING: &[&str] = &[
    "dalloc",
    "free",
    "tcache_bin_flush",
    "purge",
    "munmap_chunk",
    "unlink_chunk",
    "malloc_consolidate",
];

fn is_dropping(moment: &Moment<'_>) -> bool {
    moment
        .frames
        .iter()
        .take_while(|frame| frame.role != Role::Own)
        .any(|frame| {
            let name = frame.function.as_deref().unwrap_or_default();
            frame.frees
                || name.starts_with("core::ptr::drop_in_place")
                || name.ends_with(" as core::ops::drop::Drop>::drop")
                || matches!(frame.role, Role::Allocator | Role::C)
                    && FREEING.iter().any(|part| name.contains(part))
        })
}
