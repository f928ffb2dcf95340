//! Turns bytes into a type's name, which may not grow without bound, and into a symbol's name.

use loopprobe::{model::TaskKind, runtime::tokio::readable, symbolize::FunctionName};

/// A type's name becomes a name for people.
pub fn names(bytes: &[u8]) {
    let name = text(bytes);
    for kind in [TaskKind::Async, TaskKind::Blocking] {
        assert!(readable(name, kind).len() <= name.len() + 600);
    }
}

/// A symbol becomes a name for people.
pub fn symbols(bytes: &[u8]) {
    let _ = FunctionName::of_symbol(text(bytes));
}

/// The bytes up to the first that is no text.
fn text(bytes: &[u8]) -> &str {
    bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid())
}
