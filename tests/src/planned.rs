//! Probes on a running program without a session: for measuring what probes cost.

use anyhow::{Context as _, Result};
use loopprobe::{
    attach::{Capacity, Kernel, Plan, PlanSize, PlannedImage, Settings},
    elf::Image,
    process::{ImageFile, Maps},
    runtime::{RUNTIMES, detect},
};
use loopprobe_common::config::Config;

/// The files of a process that poll tasks, and the programs for them, with nothing probed yet.
///
/// # Errors
/// When the process has no Tokio, or the programs cannot be loaded.
pub fn planned(pid: u32) -> Result<(Kernel, Vec<PlannedImage>, usize)> {
    let mut plan = Plan::default();
    let mut images = Vec::new();
    for mapping in Maps::read(pid)?.images() {
        let Ok(file) = ImageFile::open(pid, mapping) else {
            continue;
        };
        let image = Image::from_file(file.file.try_clone()?, &mapping.path);
        let found = image.map(|image| detect(RUNTIMES, &image, None).unwrap_or_default());
        if let Some(found) = found.unwrap_or_default().pop() {
            images.push(plan.add(file, found, None));
        }
    }
    images.first().context("no task is polled there")?;
    let config = Config {
        threshold_ns: u64::MAX,
        ..Config::default()
    };
    let capacity = Capacity::for_plan(&plan, false);
    let mut kernel = Kernel::load(&Settings::of_probes(pid, capacity, config))?;
    kernel.write_tables(&plan, PlanSize::default())?;
    Ok((kernel, images, plan.sites.len()))
}
