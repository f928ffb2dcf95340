//! Any text given as a type's name becomes a name for people.
#![no_main]

use libfuzzer_sys::fuzz_target;
use loopprobe::{model::TaskKind, runtime::tokio::readable};

fuzz_target!(|name: &str| {
    for kind in [TaskKind::Async, TaskKind::Blocking] {
        assert!(readable(name, kind).len() <= name.len() + 600);
    }
});
