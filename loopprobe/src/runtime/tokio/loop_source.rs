//! Where Tokio's loops come from.

/// Whether a source file is one of those with `block_on` and what it calls to poll its future, all
/// of which can panic: Tokio 1.24 to 1.54 (`runtime/scheduler`, `runtime/context`,
/// `runtime/park.rs`), and before (`runtime/enter.rs`, `park/thread.rs`).
pub(super) fn is_loop_source(file: &str) -> bool {
    const FILES: &[&str] = &[
        "/src/runtime/scheduler/",
        "/src/runtime/context",
        "/src/runtime/park.rs",
        "/src/runtime/runtime.rs",
        "/src/runtime/enter.rs",
        "/src/park/thread.rs",
    ];
    file.contains("tokio") && FILES.iter().any(|part| file.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_of_the_loop_are_told_from_others() {
        assert!(is_loop_source(
            "/r/tokio-1.54.1/src/runtime/scheduler/current_thread/mod.rs"
        ));
        assert!(is_loop_source("vendor/tokio/src/runtime/park.rs"));
        assert!(!is_loop_source("/r/tokio-1.54.1/src/time/sleep.rs"));
        assert!(!is_loop_source("/r/other-1.0.0/src/runtime/park.rs"));
    }
}
