//! A session in which no task was polled: what the process does instead.

use std::{collections::HashSet, io};

use loopprobe_common::thread::Thread;

use super::Observer;
use crate::{
    attach::Plan,
    clock::now_ns,
    collect::{doing::Threads, error::no_tokio, images::Images, polls::open_polls, stacks::Stacks},
    model::{ChildProcess, Event, NoPolls, Notice, Sink, ThreadState},
    process::{self, Maps},
    runtime::Runtimes,
};

/// Children whose files are searched for a runtime; where they run the same file, all are told.
const MAX_SEARCHED: usize = 4;

impl Observer {
    /// Looks at the process's threads, which takes as long as walking their stacks, and at the
    /// processes below it. What threads do in a program without Tokio is not worth a word.
    pub(super) fn no_polls(&mut self, threads: &[(u32, Thread)]) -> Option<NoPolls> {
        if self.plan.sites.is_empty() {
            let children = self.children();
            return (!children.is_empty()).then(|| NoPolls {
                threads: Vec::new(),
                children,
            });
        }
        Some(NoPolls {
            threads: self.look_at_threads(threads, false),
            children: self.children(),
        })
    }

    /// What each thread of the process does now, with its stack if `frames`. Takes as long as
    /// walking the stacks.
    pub(super) fn look_at_threads(
        &mut self,
        threads: &[(u32, Thread)],
        frames: bool,
    ) -> Vec<ThreadState> {
        let pid = self.options.pid;
        let mut polling: HashSet<u32> = threads
            .iter()
            .filter(|(_, thread)| {
                let mut open = open_polls(thread).iter();
                open.any(|poll| self.is_open(thread, (thread.tid, poll.start_ns)))
            })
            .map(|(_, thread)| thread.tid)
            .collect();
        polling.extend(
            self.stuck
                .iter()
                .flat_map(super::super::stuck::Stuck::threads),
        );
        if self.stacks.is_none() {
            // Not wanted for polls; but without them nothing could be said.
            self.stacks = Stacks::new(&self.options).ok();
        }
        self.stacks.as_mut().map_or_else(Vec::new, |stacks| {
            stacks.reload();
            Threads::of(pid, &self.planned, stacks).look(
                &self.kernel,
                &polling,
                &mut self.polls.threads,
                frames,
            )
        })
    }

    /// Says at the end what only then is known of a program that loopprobe started: that it does
    /// not use Tokio, and that a debug file belonged to nothing.
    pub(super) fn tell_unused(&mut self, sink: &mut dyn Sink) -> io::Result<()> {
        let without = self.plan.sites.is_empty().then(|| self.without_tokio());
        let useless = self.images.useless_debug_file().map(|(path, problem)| {
            format!("--debug-file {} was of no use: {problem}", path.display())
        });
        for message in without.into_iter().chain(useless) {
            sink.event(&Event::Notice(Notice {
                time_ns: now_ns(),
                message,
                threshold_ns: None,
                step: None,
            }))?;
        }
        Ok(())
    }

    fn without_tokio(&self) -> String {
        match (&self.options.program, self.images.len()) {
            // It ended before its memory map was read.
            (Some(program), 0) => format!(
                "{} does not use Tokio 1.21 or later: it holds no task type; libraries that it loaded were not looked at",
                program.display()
            ),
            (_, files) => no_tokio(self.options.pid, files, &self.images.unreadable),
        }
    }

    /// The processes below this one that have a runtime in them.
    fn children(&self) -> Vec<ChildProcess> {
        let pid = self.options.pid;
        let files: HashSet<_> = Maps::read(pid)
            .iter()
            .flat_map(Maps::images)
            .filter(|mapping| {
                let images = self
                    .planned
                    .iter()
                    .filter_map(|image| image.runtime.as_ref());
                let mut paths = images.map(|image| &image.facts().path);
                paths.any(|path| *path == mapping.path)
            })
            .map(process::Mapping::file_id)
            .collect();
        let mut searched = 0;
        let mut has_loop = |child: u32| {
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
            searched <= MAX_SEARCHED && has_runtime(self.options.runtimes, child)
        };
        process::descendants(pid)
            .unwrap_or_default()
            .into_iter()
            .filter(|child| has_loop(*child))
            .map(|pid| ChildProcess {
                pid,
                name: process::name(pid).unwrap_or_default(),
            })
            .collect()
    }
}

fn has_runtime(runtimes: Runtimes, pid: u32) -> bool {
    let planned = Images::new(runtimes, &[]).plan_mapped(pid, &mut Plan::default());
    planned.is_ok_and(|planned| planned.iter().any(|image| image.runtime.is_some()))
}
