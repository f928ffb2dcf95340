//! A session in which no task was polled: what the process does instead.

use std::collections::HashSet;

use loopprobe_common::thread::Thread;

use super::Observer;
use crate::{
    attach::Plan,
    collect::{doing::Threads, images::Images, polls::open_polls, stacks::Stacks},
    model::{ChildProcess, NoPolls},
    process::{self, Maps},
};

/// Children whose files are searched for Tokio; where they run the same file, all are told.
const MAX_SEARCHED: usize = 4;

impl Observer {
    /// Looks at the process's threads, which takes as long as walking their stacks, and at the processes below it.
    pub(super) fn no_polls(&mut self, threads: &[(u32, Thread)]) -> NoPolls {
        let pid = self.options.pid;
        let mut polling: HashSet<u32> = threads
            .iter()
            .filter(|(_, thread)| {
                let mut open = open_polls(thread).iter();
                open.any(|poll| self.is_open(thread, (thread.tid, poll.start_ns)))
            })
            .map(|(_, thread)| thread.tid)
            .collect();
        polling.extend(self.stuck.iter().flat_map(|stuck| stuck.threads()));
        if self.stacks.is_none() {
            // Not wanted for polls; but without them nothing could be said.
            self.stacks = Stacks::new(&self.options).ok();
        }
        let threads = self.stacks.as_mut().map_or_else(Vec::new, |stacks| {
            stacks.reload();
            Threads::of(pid, &self.planned, stacks).look(
                &self.kernel,
                &polling,
                &mut self.polls.threads,
            )
        });
        NoPolls {
            threads,
            children: self.children(),
        }
    }

    /// The processes below this one that have Tokio in them.
    fn children(&self) -> Vec<ChildProcess> {
        let pid = self.options.pid;
        let files: HashSet<_> = Maps::read(pid)
            .iter()
            .flat_map(Maps::images)
            .filter(|mapping| {
                let mut tokio = self.planned.iter().filter_map(|image| image.tokio.as_ref());
                tokio.any(|tokio| tokio.path == mapping.path)
            })
            .map(process::Mapping::file_id)
            .collect();
        let mut searched = 0;
        let mut uses_tokio = |child: u32| {
            let Ok(maps) = Maps::read(child) else {
                return false;
            };
            if maps
                .images()
                .any(|mapping| files.contains(&mapping.file_id()))
            {
                return true;
            }
            searched += 1;
            searched <= MAX_SEARCHED && has_tokio(child)
        };
        process::descendants(pid)
            .unwrap_or_default()
            .into_iter()
            .filter(|child| uses_tokio(*child))
            .map(|pid| ChildProcess {
                pid,
                name: process::name(pid).unwrap_or_default(),
            })
            .collect()
    }
}

fn has_tokio(pid: u32) -> bool {
    let planned = Images::new(&[]).plan_mapped(pid, &mut Plan::default());
    planned.is_ok_and(|planned| planned.iter().any(|image| image.tokio.is_some()))
}
