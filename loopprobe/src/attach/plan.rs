//! What to probe in which file, and what the programs must know of it.

use std::{collections::BTreeMap, sync::Arc};

use loopprobe_common::config::{
    FirstInstruction, Range, Site as SiteEntry, TaskLayout, relative, vtable_key,
};

use super::{Probe, Role, schedule};
use crate::{
    code::{Leads, is_cheap, probe_point},
    elf::{FileOffset, Image, VirtAddr},
    model::{TaskKind, TaskType},
    process::ImageFile,
    runtime::{Runtime, RuntimeImage, ServedType, Site, SiteRole},
};

/// One file to probe.
#[derive(Debug)]
pub struct PlannedImage {
    /// The open file; probes are placed through it.
    pub file: ImageFile,
    /// What to probe, by role.
    pub probes: BTreeMap<Role, Vec<Probe>>,
    /// What it holds of a runtime; `None` for the library with `epoll_wait`.
    pub runtime: Option<Arc<dyn RuntimeImage>>,
}

/// The tables for the programs, growing with each file that is added.
#[derive(Debug, Default)]
pub struct Plan {
    /// By cookie.
    pub sites: Vec<SiteEntry>,
    /// By index: what each task type is.
    pub types: Vec<TaskType>,
    /// By index: whose they are, and where their tasks keep what is read.
    pub served: Vec<(&'static dyn Runtime, ServedType)>,
    /// Keys of sites that serve several types, by [`vtable_key`].
    pub shared: Vec<(u64, TaskLayout)>,
    /// Code of the files with a runtime.
    pub text: Vec<Range>,
    /// How many sites begin with an instruction that the kernel does not emulate.
    pub slow_sites: usize,
    /// At how many places tasks are scheduled.
    pub schedule_points: usize,
    /// At how many of them the kernel does not emulate the instruction.
    pub slow_schedule_points: usize,
}

/// How much is in a plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlanSize {
    /// Poll sites.
    pub sites: usize,
    /// Task types.
    pub types: usize,
    /// Keys of shared sites.
    pub shared: usize,
    /// Ranges of code.
    pub text: usize,
}

impl Plan {
    /// How much is in it now.
    pub fn size(&self) -> PlanSize {
        PlanSize {
            sites: self.sites.len(),
            types: self.types.len(),
            shared: self.shared.len(),
            text: self.text.len(),
        }
    }

    /// Takes back what was added since it had this size.
    pub fn shrink(&mut self, size: PlanSize) {
        self.sites.truncate(size.sites);
        self.types.truncate(size.types);
        self.served.truncate(size.types);
        self.shared.truncate(size.shared);
        self.text.truncate(size.text);
    }

    /// Adds a file with a runtime that lies in the process with `bias`, if it lies there already.
    pub fn add(
        &mut self,
        file: ImageFile,
        image: Arc<dyn RuntimeImage>,
        bias: Option<u64>,
    ) -> PlannedImage {
        let facts = image.facts();
        let mut probes = self.add_sites(image.as_ref(), &|_| true);
        for (role, offsets) in [
            (Role::ParkEnter, &facts.marks.park),
            (Role::BlockOnEnter, &facts.marks.block_on),
        ] {
            if !offsets.is_empty() {
                probes.insert(
                    role,
                    offsets
                        .iter()
                        .map(|o| Probe {
                            offset: o.0,
                            cookie: 0,
                        })
                        .collect(),
                );
            }
        }
        let points = &facts.marks.schedule;
        let schedule = schedule::probes(points);
        if !schedule.is_empty() {
            self.schedule_points += schedule.len();
            self.slow_schedule_points += points.iter().filter(|p| !p.at.emulated).count();
            probes.insert(Role::ScheduleEnter, schedule);
        }
        if let Some(bias) = bias {
            self.add_text(image.as_ref(), bias);
        }
        PlannedImage {
            file,
            probes,
            runtime: Some(image),
        }
    }

    /// Adds nothing of a file but the sites that serve one of the types that are `wanted`. Root
    /// futures, which are told by all that lies between polls, are not to be seen then.
    pub fn add_of(
        &mut self,
        file: ImageFile,
        image: Arc<dyn RuntimeImage>,
        wanted: &dyn Fn(&TaskType) -> bool,
    ) -> PlannedImage {
        let (sites, shared) = (self.sites.len(), self.shared.len());
        let serves = |site: &Site| site.types.iter().any(|served| wanted(&served.task));
        let probes = self.add_sites(image.as_ref(), &serves);
        let layouts = self.sites[sites..].iter_mut().map(|site| &mut site.task);
        let shared = self.shared[shared..].iter_mut().map(|(_, layout)| layout);
        for layout in layouts.chain(shared) {
            layout.flags &= !TaskLayout::FLAG_LOCAL;
        }
        PlannedImage {
            file,
            probes,
            runtime: Some(image),
        }
    }

    /// Adds the code of an image with a runtime, once it is known where it lies.
    pub fn add_text(&mut self, image: &dyn RuntimeImage, bias: u64) {
        self.text
            .extend(image.facts().text.iter().map(|(start, size)| {
                let start = start.0.wrapping_add(bias);
                Range {
                    start,
                    end: start.wrapping_add(*size),
                }
            }));
    }

    /// Puts an image with names in the place of its sketch ([`Runtime::sketch`]), which was added
    /// when the plan had this size. Sites and types must be the same.
    pub fn name(&mut self, added_at: PlanSize, image: &dyn RuntimeImage) {
        let mut sites = self.sites.split_off(added_at.sites);
        let mut types = self.types.split_off(added_at.types);
        let mut served = self.served.split_off(added_at.types);
        let mut shared = self.shared.split_off(added_at.shared);
        for site in polled(image) {
            self.add_site(site, image.runtime());
        }
        // What follows is of files that were added later.
        self.sites
            .extend(sites.drain(self.sites.len() - added_at.sites..));
        let named = self.types.len() - added_at.types;
        self.types.extend(types.drain(named..));
        self.served.extend(served.drain(named..));
        self.shared
            .extend(shared.drain(self.shared.len() - added_at.shared..));
    }

    /// Adds those of an image's sites that are wanted; with what is to be probed there.
    fn add_sites(
        &mut self,
        image: &dyn RuntimeImage,
        wanted: &dyn Fn(&Site) -> bool,
    ) -> BTreeMap<Role, Vec<Probe>> {
        let mut probes: BTreeMap<Role, Vec<Probe>> = BTreeMap::new();
        for site in polled(image).filter(|site| wanted(site)) {
            let probe = Probe {
                offset: site.offset.0,
                cookie: self.sites.len() as u64,
            };
            self.slow_sites += usize::from(!site.entry.emulated);
            self.add_site(site, image.runtime());
            for role in roles(site.role) {
                probes.entry(*role).or_default().push(probe);
            }
        }
        probes
    }

    fn add_site(&mut self, site: &Site, runtime: &'static dyn Runtime) {
        let Some(first) = site.types.first() else {
            return;
        };
        let cookie = self.sites.len() as u64;
        let key = |served: &ServedType| relative(served.key.0, site.address.0);
        let mut task = layout(self.types.len(), first);
        if !site.has_header {
            task.flags |= TaskLayout::FLAG_NO_HEADER;
        }
        if site.types.len() > 1 {
            task.flags |= TaskLayout::FLAG_SHARED;
        }
        self.sites.push(SiteEntry {
            vtable: key(first),
            task,
            first: first_instruction(&site.entry.leads),
        });
        for served in &site.types {
            let layout = layout(self.types.len(), served);
            if site.types.len() > 1 {
                self.shared.push((vtable_key(cookie, key(served)), layout));
            }
            self.types.push(served.task.clone());
            self.served.push((runtime, served.clone()));
        }
    }
}

/// A probe on `epoll_wait` in the file that defines it, if it can be a cheap one.
pub fn epoll(file: ImageFile, offset: FileOffset) -> PlannedImage {
    let probe = Probe {
        offset: offset.0,
        cookie: 0,
    };
    PlannedImage {
        file,
        probes: BTreeMap::from([(Role::EpollEnter, vec![probe])]),
        runtime: None,
    }
}

/// The sites that serve anything.
fn polled(image: &dyn RuntimeImage) -> impl Iterator<Item = &Site> {
    let sites = image.facts().sites.iter();
    sites.filter(|site| !site.types.is_empty())
}

/// Which programs a site gets.
fn roles(role: SiteRole) -> &'static [Role] {
    match role {
        SiteRole::Closure => &[Role::BlockingEnter],
        SiteRole::Turn => &[Role::PollExit, Role::PollEnter],
    }
}

fn first_instruction(leads: &Leads) -> FirstInstruction {
    FirstInstruction {
        next: leads.next.map(i64::cast_unsigned),
        pushed: u64::from(leads.pushed),
    }
}

fn layout(index: usize, served: &ServedType) -> TaskLayout {
    let flag = |is_set: bool, flag: u32| if is_set { flag } else { 0 };
    TaskLayout {
        index: index as u32,
        id_offset: served.id_offset,
        scheduler_offset: if served.task.kind == TaskKind::Blocking {
            0
        } else {
            served.scheduler_offset
        },
        flags: flag(served.is_local, TaskLayout::FLAG_LOCAL)
            | flag(served.ask_memory, TaskLayout::FLAG_BOXED),
    }
}

/// Where `epoll_wait` can be probed cheaply in an image that defines it.
pub fn epoll_offset(image: &Image, address: VirtAddr) -> Option<FileOffset> {
    let point = probe_point(image, address).filter(|point| is_cheap(image, point))?;
    image.file_offset(point.address)
}

#[cfg(test)]
mod tests;
