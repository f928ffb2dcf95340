//! What to probe in which file, and what the programs must know of it.

use std::collections::BTreeMap;

use loopprobe_common::config::{
    FirstInstruction, Range, Site as SiteEntry, TaskLayout, relative, vtable_key,
};

use super::{Probe, Role};
use crate::{
    code::{Leads, probe_point},
    elf::{FileOffset, Image, VirtAddr},
    model::{TaskKind, TaskType},
    process::{ImageFile, Mapping},
    runtime::tokio::{Scheduler, Site, TokioImage, Vtable, may_be_boxed},
};

/// One file to probe.
#[derive(Debug)]
pub struct PlannedImage {
    /// The open file; probes are placed through it.
    pub file: ImageFile,
    /// What to probe, by role.
    pub probes: BTreeMap<Role, Vec<Probe>>,
    /// What it holds of Tokio; `None` for the library with `epoll_wait`.
    pub tokio: Option<TokioImage>,
}

/// The tables for the programs, growing with each file that is added.
#[derive(Debug, Default)]
pub struct Plan {
    /// By cookie.
    pub sites: Vec<SiteEntry>,
    /// By index: what each task type is.
    pub types: Vec<TaskType>,
    /// By index: their vtables.
    pub vtables: Vec<Vtable>,
    /// Vtables of sites that serve several types, by [`vtable_key`].
    pub shared: Vec<(u64, TaskLayout)>,
    /// Code of the files with Tokio.
    pub text: Vec<Range>,
    /// How many sites begin with an instruction that the kernel does not emulate.
    pub slow_sites: usize,
}

/// How much is in a plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlanSize {
    /// Poll sites.
    pub sites: usize,
    /// Task types.
    pub types: usize,
    /// Vtables of shared sites.
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
        self.vtables.truncate(size.types);
        self.shared.truncate(size.shared);
        self.text.truncate(size.text);
    }

    /// Adds a file with Tokio that lies in the process with `bias`, if it lies there already.
    pub fn add(&mut self, file: ImageFile, tokio: TokioImage, bias: Option<u64>) -> PlannedImage {
        let mut probes: BTreeMap<Role, Vec<Probe>> = BTreeMap::new();
        for site in &tokio.sites {
            let cookie = self.sites.len() as u64;
            self.add_site(site);
            let probe = Probe {
                offset: site.offset.0,
                cookie,
            };
            for role in roles(site) {
                probes.entry(*role).or_default().push(probe);
            }
        }
        for (role, offsets) in [
            (Role::ParkEnter, &tokio.loop_symbols.park),
            (Role::BlockOnEnter, &tokio.loop_symbols.block_on),
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
        if let Some(bias) = bias {
            self.add_text(&tokio, bias);
        }
        PlannedImage {
            file,
            probes,
            tokio: Some(tokio),
        }
    }

    /// Adds the code of an image with Tokio, once it is known where it lies.
    pub fn add_text(&mut self, tokio: &TokioImage, bias: u64) {
        self.text.extend(tokio.text.iter().map(|(start, size)| {
            let start = start.0.wrapping_add(bias);
            Range {
                start,
                end: start.wrapping_add(*size),
            }
        }));
    }

    fn add_site(&mut self, site: &Site) {
        let Some(first) = site.vtables.first() else {
            return;
        };
        let cookie = self.sites.len() as u64;
        let vtable = |v: &Vtable| relative(v.address.0, site.address.0);
        let mut task = layout(self.types.len(), first);
        if site.vtables.len() > 1 {
            task.flags |= TaskLayout::FLAG_SHARED;
        }
        self.sites.push(SiteEntry {
            vtable: vtable(first),
            task,
            first: first_instruction(&site.entry.leads),
        });
        for v in &site.vtables {
            let layout = layout(self.types.len(), v);
            if site.vtables.len() > 1 {
                self.shared.push((vtable_key(cookie, vtable(v)), layout));
            }
            self.types.push(v.task.clone());
            self.vtables.push(v.clone());
        }
        self.slow_sites += usize::from(!site.entry.emulated);
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
        tokio: None,
    }
}

/// Process address minus virtual address of an image, from one of its executable mappings.
pub fn bias(image: &Image, mapping: &Mapping) -> Option<u64> {
    image.executable_ranges().find_map(|range| {
        let offset = image.file_offset(range.start)?.0;
        let length = mapping.end.0 - mapping.start.0;
        // The mapping begins at the page in which the segment begins.
        let distance = offset
            .checked_sub(mapping.file_offset.0)
            .filter(|d| *d < length)?;
        Some((mapping.start.0 + distance).wrapping_sub(range.start.0))
    })
}

/// Which programs a site gets. A site whose types disagree is timed, and told apart by the vtable.
fn roles(site: &Site) -> &'static [Role] {
    if site
        .vtables
        .iter()
        .all(|v| v.task.kind == TaskKind::Blocking)
    {
        &[Role::BlockingEnter]
    } else {
        &[Role::PollExit, Role::PollEnter]
    }
}

fn first_instruction(leads: &Leads) -> FirstInstruction {
    FirstInstruction {
        next: leads.next.map(i64::cast_unsigned),
        pushed: u64::from(leads.pushed),
    }
}

fn layout(index: usize, vtable: &Vtable) -> TaskLayout {
    let local = matches!(
        vtable.scheduler,
        Scheduler::CurrentThread | Scheduler::Local
    );
    TaskLayout {
        index: index as u32,
        id_offset: vtable.id_offset,
        scheduler_offset: if vtable.task.kind == TaskKind::Blocking {
            0
        } else {
            vtable.scheduler_offset
        },
        flags: if local { TaskLayout::FLAG_LOCAL } else { 0 }
            | if may_be_boxed(&vtable.task) {
                TaskLayout::FLAG_BOXED
            } else {
                0
            },
    }
}

/// Where `epoll_wait` can be probed cheaply in an image that defines it.
pub fn epoll_offset(image: &Image, address: VirtAddr) -> Option<FileOffset> {
    let point = probe_point(image, address)?;
    point
        .instruction
        .emulated
        .then(|| image.file_offset(point.address))
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(sites: usize) -> Plan {
        let mut plan = Plan::default();
        for index in 0..sites {
            plan.sites.push(SiteEntry::default());
            plan.types.push(TaskType::unknown(index as u64));
            plan.shared.push((index as u64, TaskLayout::default()));
        }
        plan
    }

    #[test]
    fn what_was_added_since_can_be_taken_back() {
        let mut plan = with(2);
        let before = plan.size();
        let more = with(3);
        plan.sites.extend(more.sites);
        plan.types.extend(more.types);
        plan.shared.extend(more.shared);
        assert_ne!(plan.size(), before);
        plan.shrink(before);
        assert_eq!(plan.size(), before);
    }
}
