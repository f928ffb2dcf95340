//! Names of the target's threads.

use std::{collections::HashMap, fs};

/// Thread names, read once a thread. A name is kept after its thread has ended.
#[derive(Debug)]
pub(super) struct ThreadNames {
    pid: u32,
    names: HashMap<u32, String>,
}

impl ThreadNames {
    /// The names of a process's threads.
    pub(super) fn new(pid: u32) -> Self {
        Self {
            pid,
            names: HashMap::new(),
        }
    }

    /// A thread's name, or `?` if it ended before it could be read.
    pub(super) fn get(&mut self, tid: u32) -> &str {
        let pid = self.pid;
        self.names.entry(tid).or_insert_with(|| {
            fs::read(format!("/proc/{pid}/task/{tid}/comm")).map_or_else(
                |_| "?".into(),
                |name| {
                    String::from_utf8_lossy(&name)
                        .trim_end_matches('\n')
                        .to_owned()
                },
            )
        })
    }
}
