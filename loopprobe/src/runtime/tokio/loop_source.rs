//! Where Tokio's loops come from.

use crate::runtime::LoopCode;

/// Source files of `block_on`, of what it calls to poll its future, and of what both it and a
/// worker park with. All of them can panic, so their code names them: Tokio 1.24 to 1.54
/// (`runtime/scheduler`, `runtime/runtime.rs`, `runtime/park.rs`), and before (`park/thread.rs`).
const BLOCK_ON: &[&str] = &[
    "/src/runtime/park.rs",
    "/src/runtime/runtime.rs",
    "/src/runtime/scheduler/current_thread",
    "/src/park/thread.rs",
];

/// Those of a worker's own loop. `Context::park_internal` and the like are no root future's.
const WORKER: &[&str] = &[
    "/src/runtime/scheduler/multi_thread/worker",
    "/src/runtime/scheduler/multi_thread/park.rs",
    "/src/runtime/scheduler/multi_thread_alt/worker",
    "/src/runtime/scheduler/multi_thread_alt/park.rs",
    "/src/runtime/thread_pool/worker.rs",
];

/// Those of what builds a runtime and starts its workers, which takes code of a worker's along.
const BUILDER: &[&str] = &[
    "/src/runtime/builder.rs",
    "/src/runtime/blocking/pool.rs",
    "/src/runtime/scheduler/multi_thread/mod.rs",
    "/src/runtime/scheduler/multi_thread_alt/mod.rs",
];

/// Those that either may have been inlined from.
const EITHER: &[&str] = &[
    "/src/runtime/scheduler/",
    "/src/runtime/context",
    "/src/runtime/enter.rs",
];

/// Those of a task's poll.
const TASK: &str = "/src/runtime/task/";

/// What a function says of its thread whose code names these source files.
pub(super) fn loop_code<'a>(files: impl Iterator<Item = &'a str> + Clone) -> LoopCode {
    let any = |parts: &[&str]| {
        let names = |file: &str| parts.iter().any(|part| file.contains(part));
        files.clone().any(|file| is_tokio(file) && names(file))
    };
    let is_others = |file: &str| !is_tokio(file) && !is_of_std(file) && !is_of_locks(file);
    let has_others = files.clone().any(is_others);
    if any(BLOCK_ON) {
        LoopCode::BlockOn
    } else if any(WORKER) && !any(BUILDER) && !has_others {
        LoopCode::Worker
    } else if any(WORKER) || any(EITHER) {
        LoopCode::BlockOn
    } else if any(&[TASK]) || has_others {
        LoopCode::Called
    } else {
        LoopCode::Silent
    }
}

fn is_tokio(file: &str) -> bool {
    file.contains("tokio")
}

fn is_of_std(file: &str) -> bool {
    file.starts_with("/rustc/") || file.contains("/library/") || file.starts_with("library/")
}

/// Tokio's locks can be those of another library, which becomes a part of its functions.
fn is_of_locks(file: &str) -> bool {
    file.contains("/parking_lot") || file.contains("/lock_api-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(files: &[&str]) -> LoopCode {
        loop_code(files.iter().copied())
    }

    #[test]
    fn block_on_is_told_from_a_workers_loop_and_from_what_they_call() {
        const WORKER: &str = "/r/tokio-1.54.1/src/runtime/scheduler/multi_thread/worker.rs";
        const CONTEXT: &str = "/r/tokio-1.54.1/src/runtime/context/runtime.rs";
        const CURRENT: &str = "/r/tokio-1.54.1/src/runtime/scheduler/current_thread/mod.rs";
        const STD: &str = "/rustc/0123/library/std/src/thread/local.rs";
        assert_eq!(of(&[CURRENT]), LoopCode::BlockOn);
        assert_eq!(of(&["vendor/tokio/src/runtime/park.rs"]), LoopCode::BlockOn);
        assert_eq!(of(&[WORKER, CONTEXT, STD]), LoopCode::Worker);
        // `main`, with the runtime that it builds.
        assert_eq!(of(&["src/main.rs", WORKER, CONTEXT]), LoopCode::BlockOn);
        let builder = "/r/tokio-1.54.1/src/runtime/builder.rs";
        assert_eq!(of(&[builder, WORKER]), LoopCode::BlockOn);
        assert_eq!(of(&[CONTEXT]), LoopCode::BlockOn);
        let task = "/r/tokio-1.54.1/src/runtime/task/core.rs";
        assert_eq!(of(&[task]), LoopCode::Called);
        assert_eq!(of(&["src/main.rs", STD]), LoopCode::Called);
        assert_eq!(
            of(&["/r/other-1.0.0/src/runtime/park.rs"]),
            LoopCode::Called
        );
        assert_eq!(of(&["/r/tokio-1.54.1/src/time/sleep.rs"]), LoopCode::Silent);
        assert_eq!(of(&[STD]), LoopCode::Silent);
        assert_eq!(of(&[]), LoopCode::Silent);
    }
}
