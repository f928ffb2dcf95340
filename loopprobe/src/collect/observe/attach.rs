//! The beginning of a session: what is prepared, and the order in which it starts.

use std::os::fd::OwnedFd;

use loopprobe_common::watch::Words;

use super::{
    Observer, canary,
    interval::Values,
    prepare::{Prepared, prepare, prepare_beside, prepare_closer},
    retime::Retiming,
    settings::{config, dead_time, sample},
    snapshot::Occasions,
    span::Span,
    threshold::fitting,
};
use crate::{
    attach::{Drain, Messages},
    collect::{
        ObserveError, Options,
        coverage::Roots,
        findings::Findings,
        head::covers_roots,
        health::Health,
        images::Known,
        naming::Naming,
        polls::Polls,
        source::{Light, Source},
        stacks::Stacks,
        stuck::Stuck,
        summary::Totals,
        workers::Workers,
    },
    model::{Due, Mode},
};

/// What reports, from the moment on at which the kernel side does.
struct Started {
    records: Drain,
    messages: Option<Messages>,
    stacks: Option<Stacks>,
    source: Source,
    /// With the rate of samples that there is.
    options: Options,
    span: Span,
}

impl Observer {
    /// Finds the process's poll sites and places the probes.
    ///
    /// # Errors
    ///
    /// [`ObserveError`]; nothing is left behind.
    pub fn attach(options: &Options) -> Result<Self, ObserveError> {
        let exit = exit_watch(options.pid)?;
        let mut prepared = prepare(options)?;
        let started = start(&mut prepared)?;
        Self::of(prepared, started, exit)
    }

    /// Places probes at nothing but the poll sites of the task types that are wanted, in files that
    /// are known already. Neither root futures nor polls that began before are seen.
    ///
    /// # Errors
    ///
    /// As for [`Self::attach`].
    pub(super) fn attach_to(options: &Options, known: Known) -> Result<Self, ObserveError> {
        let exit = exit_watch(options.pid)?;
        let mut prepared = prepare_closer(options, known)?;
        let started = start(&mut prepared)?;
        Self::of(prepared, started, exit)
    }

    /// Watches a process that another session probes, or has probed. `roots_only`: its root futures
    /// alone.
    ///
    /// # Errors
    ///
    /// As for [`Self::attach`].
    pub(super) fn watch_beside(
        options: &Options,
        known: Known,
        words: &[Words],
        roots_only: bool,
    ) -> Result<Self, ObserveError> {
        let exit = exit_watch(options.pid)?;
        let mut prepared = prepare_beside(options, known, words, roots_only)?;
        let started = start(&mut prepared)?;
        Self::of(prepared, started, exit)
    }

    fn of(prepared: Prepared, started: Started, exit: OwnedFd) -> Result<Self, ObserveError> {
        let totals = begin_totals(&prepared);
        let (wanted, planned) = (prepared.options, prepared.planned);
        let (kernel, measured) = (prepared.kernel, prepared.dead_time);
        let (pid, start_ns) = (wanted.pid, started.span.start_ns);
        let mut stacks = started.stacks;
        let is_closed = prepared.images.closed;
        let looks = stacks.as_mut().filter(|_| !is_closed);
        let mut stuck = looks.map(|s| Stuck::look(pid, start_ns, &planned, &kernel, s));
        Ok(Self {
            kernel,
            records: started.records,
            exit,
            plan: prepared.plan,
            images: prepared.images,
            polls: Polls::new(&wanted, dead_time(&wanted, measured)),
            dead_time: measured,
            stacks,
            unwalked: stuck.as_mut().and_then(Stuck::news),
            stuck,
            source: started.source,
            scans: wanted.stacks && !is_closed,
            unsampled: started.options.sample_hz < wanted.sample_hz,
            messages: started.messages,
            workers: Workers::default(),
            totals,
            canary: prepared.canary,
            budget: None,
            retiming: Retiming::default(),
            live: Due::default(),
            health: Health::of(pid),
            values: Values::default(),
            stuck_watches: Vec::new(),
            occasions: Occasions::default(),
            findings: Findings::default(),
            fitting: fitting(&wanted, start_ns),
            span: started.span,
            planned,
            measured: prepared.probes,
            naming: Naming::new(wanted.runtimes, wanted.cache).map_err(ObserveError::System)?,
            options: started.options,
        })
    }
}

fn begin_totals(prepared: &Prepared) -> Totals {
    Totals {
        prices: Some(prepared.prices),
        canary: Some(canary::at_first(prepared.canary.as_ref())),
        probes_at_times: prepared.options.mode == Mode::Auto,
        roots: Roots {
            covered: covers_roots(&prepared.options, &prepared.images),
            watched_ns: 0,
        },
        ..Totals::default()
    }
}

/// Starts what reads first, then what writes, and the probes last.
fn start(prepared: &mut Prepared) -> Result<Started, ObserveError> {
    let (options, planned) = (&prepared.options, &prepared.planned);
    let kernel = &mut prepared.kernel;
    let records = kernel.records()?;
    let messages = options.kernel_log.then(|| kernel.messages()).transpose()?;
    let mut stacks = options.stacks.then(|| Stacks::new(options)).transpose()?;
    let because_of = prepared.exact_because_of.take();
    let mut source = Source::of(options, planned, because_of)?;
    if let Some(stacks) = &mut stacks {
        stacks.tell_ends(source.light().map(Light::functions));
        stacks.tell_runtimes(planned);
    }
    match &mut source {
        Source::Probes(_) => kernel.attach_tracepoints()?,
        Source::Watching(watching) => {
            watching.look_at(
                options.pid,
                &prepared.images.watchable,
                planned,
                stacks.as_mut(),
            );
            kernel.attach_watch()?;
        }
    }
    // Without stacks, samples still tell that a poll takes long.
    let sampled = sample(options, kernel, prepared.dead_time)?;
    if source.probes().is_some() {
        planned.iter().try_for_each(|image| kernel.attach(image))?;
    }
    if prepared.canary.is_some() {
        kernel.attach_canary()?;
    }
    let span = Span::begin(options.duration);
    let scans = options.stacks && !prepared.images.closed;
    kernel.set_config(&config(&sampled, scans, prepared.dead_time, span))?;
    Ok(Started {
        records,
        messages,
        stacks,
        source,
        options: sampled,
        span,
    })
}

/// A descriptor that becomes readable when the process ends.
fn exit_watch(pid: u32) -> Result<OwnedFd, ObserveError> {
    crate::process::pidfd(pid).map_err(ObserveError::Process)
}
