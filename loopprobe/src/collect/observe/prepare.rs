//! Before the first probe is placed: what there is to probe, the kernel side for it, and what a
//! probe costs here.

use std::{
    path::PathBuf,
    thread::{self, ScopedJoinHandle},
};

use loopprobe_common::watch::Words;

use super::{
    super::{
        ObserveError, Options,
        bill::Prices,
        canary::Canary,
        images::{Images, Known},
        source::light::untimeable,
        source::watch::{Watchable, words_of},
    },
    price::{Price, price},
    settings::{config, lazy_headers},
    span::Span,
};
use crate::{
    attach::{AttachError, Capacity, DeadTime, Kernel, Plan, PlanSize, PlannedImage, Settings},
    clock::nanoseconds,
    model::{Mode, TaskType},
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
    /// What probes cost here; all nothing where none are placed.
    pub prices: Prices,
    pub dead_time: DeadTime,
    /// Those that it took to measure it.
    pub probes: Option<Kernel>,
    /// The file because of which returns are probed too, in spite of `--light`.
    pub exact_because_of: Option<PathBuf>,
    /// `None` where there are no probes to check.
    pub canary: Option<Canary>,
}

impl Prepared {
    /// With no probe that costs anything.
    fn unprobed(
        options: &Options,
        images: Images,
        (plan, planned): (Plan, Vec<PlannedImage>),
        kernel: Kernel,
    ) -> Self {
        Self {
            options: options.clone(),
            images,
            plan,
            planned,
            kernel,
            prices: Prices::default(),
            dead_time: DeadTime::default(),
            probes: None,
            exact_because_of: None,
            canary: None,
        }
    }
}

/// Looks for task types in the process's files and loads the kernel side, while another thread
/// measures what a probe costs: that takes as long as the rest, and needs none of it.
///
/// # Errors
/// [`ObserveError`], if there is nothing to probe or probes do not work here.
pub(super) fn prepare(options: &Options) -> Result<Prepared, ObserveError> {
    if options.is_watch() {
        return prepare_watch(options);
    }
    let mut options = options.clone();
    let (lazy, light) = (lazy_headers(&options), options.is_light());
    let mut images = Images::new(options.runtimes, &options.debug_files);
    images.name_at_once = light;
    images.cache = options.cache;
    images.roots = options.wants_roots();
    images.stand_in = options.wants_stand_in();
    let mut plan = Plan::default();
    thread::scope(|scope| {
        let cost = scope.spawn(move || price(lazy, light));
        let planned = look(&options, &mut images, &mut plan)?;
        let untimeable = untimeable(&planned).filter(|_| light);
        let exact_because_of = untimeable.map(|image| image.path.clone());
        if exact_because_of.is_some() {
            options.mode = Mode::Exact;
        }
        let mut kernel = load(&options, &plan, &planned)?;
        let mut cost = measured(cost)?;
        if options.is_light() != light {
            cost = price(lazy, options.is_light())?;
        }
        if !cost.timing.all_threads {
            kernel.probe_all_processes();
        }
        Ok(Prepared {
            canary: Some(Canary::new(&options)),
            options,
            images,
            plan,
            planned,
            kernel,
            prices: (&cost.timing).into(),
            dead_time: cost.timing.dead_time,
            probes: cost.probes,
            exact_because_of,
        })
    })
}

/// The same where no probe is placed anywhere.
fn prepare_watch(options: &Options) -> Result<Prepared, ObserveError> {
    let mut images = Images::new(options.runtimes, &options.debug_files);
    images.watch = true;
    images.cache = options.cache;
    let mut plan = Plan::default();
    let planned = look(options, &mut images, &mut plan)?;
    refuse_unwatchable(&images.watchable)?;
    let (words, _) = words_of(options.pid, &images.watchable, options.program.is_some());
    let kernel = load_watch(options, &settings(options, &plan), &words)?;
    Ok(Prepared::unprobed(options, images, (plan, planned), kernel))
}

/// The same for a few task types of a process that is watched.
pub(super) fn prepare_closer(options: &Options, known: Known) -> Result<Prepared, ObserveError> {
    let mut images = Images::new(options.runtimes, &[]);
    images.closed = true;
    let mut plan = Plan::default();
    let wanted = |task: &TaskType| known.wanted.contains(task);
    let files = known.files.into_iter();
    let planned: Vec<PlannedImage> = files
        .map(|(file, image)| plan.add_of(file, image, &wanted))
        .collect();
    let cost = price(lazy_headers(options), false)?;
    let mut kernel = load(options, &plan, &planned)?;
    if !cost.timing.all_threads {
        kernel.probe_all_processes();
    }
    Ok(Prepared {
        prices: (&cost.timing).into(),
        dead_time: cost.timing.dead_time,
        probes: cost.probes,
        ..Prepared::unprobed(options, images, (plan, planned), kernel)
    })
}

/// The same for a process that another session probes: threads keep what they poll where `words`
/// say. `roots_only`: for its root futures alone.
pub(super) fn prepare_beside(
    options: &Options,
    known: Known,
    words: &[Words],
    roots_only: bool,
) -> Result<Prepared, ObserveError> {
    let mut images = Images::new(options.runtimes, &[]);
    (images.closed, images.watch) = (true, true);
    let mut plan = Plan::default();
    let files = known.files.into_iter();
    let planned = files
        .map(|(file, image)| plan.add(file, image, None))
        .collect();
    let settings = Settings {
        watch: true,
        roots_only,
        ..settings(options, &plan)
    };
    let kernel = load_watch(options, &settings, words)?;
    Ok(Prepared::unprobed(options, images, (plan, planned), kernel))
}

/// Refuses a process, or a program, of which nothing can be watched.
fn refuse_unwatchable(images: &[Watchable]) -> Result<(), ObserveError> {
    let mut refused = images
        .iter()
        .filter_map(|image| Some((image, image.words.err()?)));
    match refused.next() {
        Some((image, why)) if images.iter().all(|image| image.words.is_err()) => {
            Err(ObserveError::NotWatchable {
                path: image.path.clone(),
                why,
            })
        }
        _ => Ok(()),
    }
}

/// What the kernel side is loaded with, for these options.
pub(super) fn settings(options: &Options, plan: &Plan) -> Settings {
    Settings {
        pid: options.pid,
        capacity: Capacity::for_plan(plan, options.program.is_some()),
        config: config(options, options.stacks, DeadTime::default(), Span::BEFORE),
        light: options.is_light(),
        lag: options.lag,
        slow_ns: options.slow_task.map_or(0, nanoseconds),
        watch: options.is_watch(),
        roots_only: false,
        sample_hz: options.sample_hz,
        log: options.kernel_log,
        method: None,
    }
}

/// The kernel side: one that is shared, where the caller wants that.
///
/// # Errors
/// [`AttachError`].
pub(super) fn kernel_of(options: &Options, settings: &Settings) -> Result<Kernel, AttachError> {
    match &options.loads {
        Some(loads) => loads.kernel(settings),
        None => Kernel::load(settings),
    }
}

fn load(options: &Options, plan: &Plan, planned: &[PlannedImage]) -> Result<Kernel, ObserveError> {
    let mut kernel = kernel_of(options, &settings(options, plan))?;
    kernel.write_tables(plan, PlanSize::default())?;
    for image in planned {
        kernel.load_programs(image)?;
    }
    kernel.load_tracepoints()?;
    Ok(kernel)
}

/// Loads what watches threads, which keep what they poll where `words` say.
fn load_watch(
    options: &Options,
    settings: &Settings,
    words: &[Words],
) -> Result<Kernel, ObserveError> {
    let mut kernel = kernel_of(options, settings)?;
    if !kernel.has_thread_pointer() {
        return Err(ObserveError::NoThreadPointer);
    }
    kernel.set_words(words)?;
    kernel.load_watch()?;
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
