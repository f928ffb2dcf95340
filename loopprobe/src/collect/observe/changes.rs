//! A process that executes another program, or loads libraries.

use std::io;

use loopprobe_common::records::{Kind, ProcessRecord};

use super::Observer;
use crate::{
    attach::PlannedImage,
    clock::now_ns,
    collect::{head::process_name, source::light::untimeable},
    model::{Event, Notice, Sink},
    runtime::ImageFacts,
};

impl Observer {
    /// The process has executed another program.
    pub(super) fn executed(
        &mut self,
        record: &ProcessRecord,
        sink: &mut dyn Sink,
    ) -> io::Result<()> {
        if let Some(stacks) = &mut self.stacks {
            stacks.reload();
        }
        self.polls.instances.refresh();
        self.values.wakes_from_ns = record.time_ns;
        self.configure()?;
        self.images.mapped.clear();
        if let Some(headcounts) = &mut self.values.headcounts {
            headcounts.forget();
        }
        let name = process_name(self.options.pid);
        notice(
            sink,
            record.time_ns,
            format!("process {} now runs {name}", self.options.pid),
        )?;
        self.follow_program(record, sink)?;
        // A program may be short.
        self.look_beside(self.span.now(), sink)
    }

    /// Probes what the process executes now.
    pub(super) fn probe_anew(
        &mut self,
        record: &ProcessRecord,
        sink: &mut dyn Sink,
    ) -> io::Result<()> {
        self.images.watchable.clear();
        if let Some(roots) = self.source.roots_mut() {
            roots.forget();
        }
        self.stop_watching("the process executes another program", sink)?;
        if record.kind == Kind::ExecByThread as u16 && !self.is_paused() {
            self.kernel.detach();
            let planned = std::mem::take(&mut self.planned);
            self.add(planned, sink)?;
        }
        self.reload_light()?;
        self.look_for_images(sink)
    }

    /// Probes libraries that have been loaded since.
    pub(super) fn look_for_images(&mut self, sink: &mut dyn Sink) -> io::Result<()> {
        if self.is_paused() {
            return Ok(());
        }
        let before = self.plan.size();
        let unnamed = self.images.unnamed.len();
        // The process may be gone; its end is noticed elsewhere.
        let Ok(planned) = self.images.plan_mapped(self.options.pid, &mut self.plan) else {
            return Ok(());
        };
        if self.plan.size() == before && planned.is_empty() {
            return Ok(());
        }
        self.polls.instances.refresh();
        if !self.kernel.has_room(&self.plan) {
            let missed = self.plan.sites.len() - before.sites;
            // What is not probed must not be asked for at the end.
            self.plan.shrink(before);
            self.images.unnamed.truncate(unnamed);
            self.totals.lost.sites += missed as u64;
            return notice(
                sink,
                now_ns(),
                format!(
                    "{missed} poll sites of a library loaded later are not probed: attach again to see them"
                ),
            );
        }
        self.kernel
            .write_tables(&self.plan, before)
            .map_err(io::Error::other)?;
        self.add(planned, sink)
    }

    fn add(&mut self, planned: Vec<PlannedImage>, sink: &mut dyn Sink) -> io::Result<()> {
        for image in planned {
            if let Some(facts) = self.untimeable(&image) {
                let (path, sites) = (facts.path.display(), facts.sites.len());
                self.totals.lost.sites += sites as u64;
                notice(
                    sink,
                    now_ns(),
                    format!(
                        "{sites} poll sites in {path} are not probed: it has no unwind information, and without it --light does not \
                         tell where a poll ends; attach again without --light to see them"
                    ),
                )?;
                continue;
            }
            if let Err(error) = self.kernel.attach(&image) {
                notice(sink, now_ns(), error.to_string())?;
            } else if let Some(found) = &image.runtime {
                let (facts, name) = (found.facts(), found.runtime().name());
                let (path, sites) = (facts.path.display(), facts.sites.len());
                notice(
                    sink,
                    now_ns(),
                    format!("found {name} in {path}: {sites} more poll sites are probed"),
                )?;
            }
            self.planned.push(image);
        }
        self.reload_light()
    }

    /// What a file holds, if entries alone do not tell its polls' ends and returns are not probed.
    fn untimeable<'a>(&self, image: &'a PlannedImage) -> Option<&'a ImageFacts> {
        self.source.light()?;
        untimeable(std::slice::from_ref(image))
    }

    fn reload_light(&mut self) -> io::Result<()> {
        if let Some(stacks) = &mut self.stacks {
            stacks.tell_runtimes(&self.planned);
        }
        let Some(light) = self.source.light_mut() else {
            return Ok(());
        };
        light
            .reload(&self.planned, &mut self.kernel)
            .map_err(io::Error::other)?;
        if let Some(stacks) = &mut self.stacks {
            stacks.tell_ends(Some(light.functions()));
        }
        Ok(())
    }
}

pub(super) fn notice(sink: &mut dyn Sink, time_ns: u64, message: String) -> io::Result<()> {
    sink.event(&Event::Notice(Notice {
        time_ns,
        message,
        threshold_ns: None,
        step: None,
    }))
}
