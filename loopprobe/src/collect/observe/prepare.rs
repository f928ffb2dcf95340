//! Before the first probe is placed: what there is to probe, the kernel side for it, and what a probe costs here.

use std::{
    path::PathBuf,
    thread::{self, ScopedJoinHandle},
};

use super::{
    super::{ObserveError, Options, images::Images, light::untimeable},
    price::{Price, price},
    settings::{config, lazy_headers},
    span::Span,
};
use crate::attach::{
    AttachError, Capacity, DeadTime, Kernel, Plan, PlanSize, PlannedImage, Settings,
};

/// What a session begins with.
pub(super) struct Prepared {
    /// With entry-only timing only where that works.
    pub options: Options,
    pub images: Images,
    pub plan: Plan,
    pub planned: Vec<PlannedImage>,
    /// Loaded, with tables for the plan. It does not know the dead time yet.
    pub kernel: Kernel,
    pub cost: Price,
    /// The file because of which returns are probed too, in spite of `--light`.
    pub exact_because_of: Option<PathBuf>,
}

/// Looks for task types in the process's files and loads the kernel side, while another thread measures what a probe costs: that
/// takes as long as the rest, and needs none of it.
///
/// # Errors
/// [`ObserveError`], if there is nothing to probe or probes do not work here.
pub(super) fn prepare(options: &Options) -> Result<Prepared, ObserveError> {
    let mut options = options.clone();
    let (lazy, light) = (lazy_headers(&options), options.light);
    let mut images = Images::new(options.runtimes, &options.debug_files);
    images.name_at_once = light;
    let mut plan = Plan::default();
    thread::scope(|scope| {
        let cost = scope.spawn(move || price(lazy, light));
        let planned = look(&options, &mut images, &mut plan)?;
        let untimeable = untimeable(&planned).filter(|_| light);
        let exact_because_of = untimeable.map(|image| image.path.clone());
        options.light &= exact_because_of.is_none();
        let mut kernel = load(&options, &plan, &planned)?;
        let mut cost = measured(cost)?;
        if options.light != light {
            cost = price(lazy, options.light)?;
        }
        if !cost.timing.all_threads {
            kernel.probe_all_processes();
        }
        Ok(Prepared {
            options,
            images,
            plan,
            planned,
            kernel,
            cost,
            exact_because_of,
        })
    })
}

fn load(options: &Options, plan: &Plan, planned: &[PlannedImage]) -> Result<Kernel, ObserveError> {
    let mut kernel = Kernel::load(&Settings {
        pid: options.pid,
        capacity: Capacity::for_plan(plan, options.program.is_some()),
        config: config(options, options.stacks, DeadTime::default(), Span::BEFORE),
        light: options.light,
        log: options.kernel_log,
        method: None,
    })?;
    kernel.write_tables(plan, PlanSize::default())?;
    for image in planned {
        kernel.load_programs(image)?;
    }
    kernel.load_tracepoints()?;
    Ok(kernel)
}

fn look(
    options: &Options,
    images: &mut Images,
    plan: &mut Plan,
) -> Result<Vec<PlannedImage>, ObserveError> {
    let pid = options.pid;
    let planned = match &options.program {
        Some(program) => images.plan_program(program, plan)?,
        None => images.plan_mapped(pid, plan)?,
    };
    // The libraries of a program that is not executed yet are not known.
    if options.program.is_some() {
        return Ok(planned);
    }
    if plan.sites.is_empty() {
        return Err(ObserveError::NoTokio {
            pid,
            files: images.len(),
            unreadable: std::mem::take(&mut images.unreadable),
        });
    }
    match images.useless_debug_file() {
        Some((path, problem)) => Err(ObserveError::DebugFile { path, problem }),
        None => Ok(planned),
    }
}

fn measured(cost: ScopedJoinHandle<'_, Result<Price, AttachError>>) -> Result<Price, AttachError> {
    cost.join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
