//! The model's enums in words.

use crate::model::{Cause, StackKind, TaskType};

/// A cause as a person would say it.
pub fn cause(cause: Cause) -> &'static str {
    match cause {
        Cause::Cpu => "computing",
        Cause::Sleep => "sleep",
        Cause::FileIo => "file I/O",
        Cause::Fsync => "fsync",
        Cause::Network => "network I/O",
        Cause::Dns => "name lookup",
        Cause::Lock => "lock",
        Cause::Child => "child process",
        Cause::PageFault => "page faults",
        Cause::Preempted => "preempted",
        Cause::Throttled => "throttled by the control group",
        Cause::NestedBlockOn => "nested block_on",
        Cause::Unknown => "unknown cause",
    }
}

/// What a thread was doing.
pub fn stack_kind(kind: StackKind) -> &'static str {
    match kind {
        StackKind::OnCpu => "on CPU",
        StackKind::Blocked => "blocked",
        StackKind::Runnable => "waiting for a CPU",
    }
}

/// A task type's name; one that is only likely says so.
pub fn task_name(task: &TaskType) -> String {
    let name = super::clean(&task.name);
    if task.certain {
        name.into_owned()
    } else {
        format!("{name} (likely)")
    }
}
