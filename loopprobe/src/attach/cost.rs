//! What a probed poll costs on this machine, measured on a function of loopprobe's own.

use std::{hint::black_box, time::Instant};

use loopprobe_common::config::{Config, Site, TaskLayout, relative};

use super::{
    AttachError, Capacity, Kernel, Method, Plan, PlanSize, PlannedImage, Probe, Role, Settings,
};
use crate::{
    elf::{Image, ProcAddr, VirtAddr},
    process::{ImageFile, Maps},
};

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProbeTiming {
    /// Nanoseconds that entry and return probe together add to a call.
    pub ns_per_poll: f64,
    /// Of these, what an entry and a return probe cost that do nothing.
    pub empty_ns: f64,
    /// Whether probes limited to one process run on all of its threads. Linux 6.6 to 6.9 runs them on its first one only.
    pub all_threads: bool,
}

/// Calls a round. At about 1 us each, a round takes a few milliseconds.
const CALLS: u32 = 2_000;
/// The best of so many rounds counts: noise only ever adds.
const ROUNDS: u32 = 5;

/// A task header as far as the programs read it.
#[repr(C)]
struct Header {
    words: [u64; 8],
}

/// Stands for `raw::poll`.
#[inline(never)]
extern "C" fn probed(header: *const Header) -> u64 {
    // Calling another function makes the compiler begin this one with a `push`, as it does `raw::poll`.
    black_box(leaf(black_box(header)) + 1)
}

#[inline(never)]
fn leaf(header: *const Header) -> u64 {
    black_box(header) as u64
}

/// Places an entry and a return probe on a function of loopprobe's own and calls it.
///
/// # Errors
///
/// [`AttachError`], if probes do not work here.
pub fn measure(method: Option<Method>) -> Result<ProbeTiming, AttachError> {
    let header = Header { words: [7; 8] };
    let (site, probed_at) = own_site()?;
    let mut kernel = Kernel::load(&Settings {
        pid: std::process::id(),
        capacity: Capacity { sites: 1, types: 1 },
        config: Config {
            threshold_ns: u64::MAX,
            ..Config::default()
        },
        log: false,
        all_processes: false,
        method,
    })?;
    let plan = Plan {
        sites: vec![Site {
            vtable: relative(header.words[2], probed_at.0),
            task: TaskLayout {
                index: 0,
                id_offset: 0x28,
                scheduler_offset: 0x20,
                flags: 0,
            },
        }],
        ..Plan::default()
    };
    kernel.write_tables(&plan, PlanSize::default())?;
    let without = best_round(&header);
    kernel.attach(&site.with([Role::BaselineExit, Role::BaselineEnter])?)?;
    let empty = best_round(&header);
    kernel.detach();
    kernel.attach(&site.with([Role::PollExit, Role::PollEnter])?)?;
    let with = best_round(&header);
    Ok(ProbeTiming {
        ns_per_poll: (with - without).max(0.0),
        empty_ns: (empty - without).max(0.0),
        all_threads: kernel.stats(0)?.polls > 0,
    })
}

/// Nanoseconds a call, on a thread that is not the process's first, as the target's workers are not.
fn best_round(header: &Header) -> f64 {
    std::thread::scope(|s| s.spawn(|| rounds(header)).join().unwrap_or(f64::NAN))
}

fn rounds(header: &Header) -> f64 {
    let round = |_| {
        let start = Instant::now();
        for _ in 0..CALLS {
            black_box(probed(black_box(header)));
        }
        start.elapsed().as_nanos() as f64 / f64::from(CALLS)
    };
    (0..ROUNDS).map(round).fold(f64::INFINITY, f64::min)
}

/// [`probed`] in loopprobe's own executable, and where it is hit.
fn own_site() -> Result<(OwnSite, ProcAddr), AttachError> {
    let pid = std::process::id();
    let address = ProcAddr(probed as *const () as u64);
    let maps = Maps::read(pid).map_err(|e| failed(&e))?;
    let mapping = maps
        .at(address)
        .ok_or_else(|| failed(&"its code is not mapped from a file"))?;
    let offset = mapping
        .to_file(address)
        .ok_or_else(|| failed(&"its code is not in its file"))?;
    let file = ImageFile::open(pid, mapping).map_err(|e| failed(&e))?;
    let image = Image::open(&file.path()).map_err(|e| failed(&e))?;
    let entry = image.address(offset).unwrap_or(VirtAddr(0));
    let offset = crate::runtime::tokio::probe_point(&image, entry)
        .and_then(|point| image.file_offset(point.address))
        .unwrap_or(offset);
    let probe = Probe {
        offset: offset.0,
        cookie: 0,
    };
    // As far behind the function's address as the probe was moved.
    let moved = offset.0 - mapping.to_file(address).map_or(offset.0, |o| o.0);
    Ok((OwnSite { file, probe }, ProcAddr(address.0 + moved)))
}

fn failed(error: &dyn std::fmt::Display) -> AttachError {
    AttachError::Object(format!("cannot probe loopprobe itself: {error}"))
}

struct OwnSite {
    file: ImageFile,
    probe: Probe,
}

impl OwnSite {
    fn with(&self, roles: [Role; 2]) -> Result<PlannedImage, AttachError> {
        let file = self.file.file.try_clone().map_err(|e| failed(&e))?;
        Ok(PlannedImage {
            file: ImageFile {
                file,
                metadata: self.file.metadata.clone(),
            },
            probes: roles
                .into_iter()
                .map(|role| (role, vec![self.probe]))
                .collect(),
            tokio: None,
        })
    }
}
