//! Polls are timed otherwise from now on, to keep to a budget: by both of their ends, or by their
//! entries alone. The kernel side is built for one of the two, so another one takes over, which is
//! loaded while the first goes on.

use std::{
    collections::HashSet,
    io, mem,
    sync::{
        Arc, OnceLock,
        mpsc::{Receiver, TryRecvError, channel},
    },
    thread,
};

use super::{
    Observer,
    prepare::{kernel_of, settings},
    price::{Price, price},
    settings::{lazy_headers, sample},
};
use crate::{
    attach::{AttachError, Kernel, PlanSize, ProbeTiming, Role, Settings},
    collect::{
        Options,
        source::{Light, untimeable},
        summary::spent_by,
    },
    model::{Mode, Sink},
};

/// What a change of timing takes.
#[derive(Default)]
pub(super) struct Retiming {
    /// What a poll costs that is timed by its entry alone, as a share of what it costs with both
    /// ends, once that has been measured.
    entries: Arc<OnceLock<f64>>,
    /// What is being loaded.
    heir: Option<Receiver<Result<Heir, AttachError>>>,
}

/// A kernel side that is loaded; only its probes are missing.
struct Heir {
    kernel: Kernel,
    timing: ProbeTiming,
    options: Options,
}

impl Heir {
    /// With the programs for such probes.
    fn load(
        options: Options,
        settings: &Settings,
        roles: HashSet<Role>,
    ) -> Result<Self, AttachError> {
        let timing = known(price(lazy_headers(&options), options.is_light())?);
        let mut kernel = kernel_of(&options, settings)?;
        kernel.load_roles(roles)?;
        kernel.load_tracepoints()?;
        if !timing.all_threads {
            kernel.probe_all_processes();
        }
        // Without a poll there is nothing that they do.
        kernel.attach_tracepoints()?;
        let sampled = sample(&options, &mut kernel, timing.dead_time)?;
        Ok(Self {
            kernel,
            timing,
            options: sampled,
        })
    }
}

impl Observer {
    /// Whether polls could be timed by their entries alone instead.
    fn can_time_entries(&self) -> bool {
        self.options.mode == Mode::Exact && untimeable(&self.planned).is_none()
    }

    /// Begins to measure what polls cost that are timed by their entries alone, where they can be.
    pub(super) fn begin_retiming(&self) -> io::Result<()> {
        if !self.can_time_entries() {
            return Ok(());
        }
        let entries = Arc::clone(&self.retiming.entries);
        let lazy = lazy_headers(&self.options);
        let measure = move || {
            let share = || {
                let both = known(price(lazy, false)?).ns_per_poll;
                Ok::<_, AttachError>(known(price(lazy, true)?).ns_per_poll / both)
            };
            if let Ok(share) = share() {
                // Nobody else sets it.
                let _ = entries.set(share);
            }
        };
        thread::Builder::new()
            .name("loopprobe-price".into())
            .spawn(measure)
            .map(drop)
    }

    /// What a poll costs that is timed by its entry alone, as a share of what it costs with both
    /// ends; `None` where both are not timed, or entries alone tell nothing, or that is not known.
    pub(super) fn price_of_entries(&self) -> Option<f64> {
        let known = self.retiming.entries.get().copied();
        known.filter(|_| self.can_time_entries())
    }

    /// Begins to load what times polls in this way, without stacks at first.
    pub(super) fn begin_to_retime(&mut self, mode: Mode) -> io::Result<()> {
        let options = Options {
            mode,
            ..self.options.clone()
        };
        let settings = settings(
            &Options {
                stacks: false,
                ..options.clone()
            },
            &self.plan,
        );
        let planned = self.planned.iter();
        let roles = planned
            .flat_map(|image| image.probes.keys().copied())
            .collect();
        let (done, heir) = channel();
        let load = move || {
            // Nobody may wait for it any more.
            let _ = done.send(Heir::load(options, &settings, roles));
        };
        thread::Builder::new()
            .name("loopprobe-load".into())
            .spawn(load)?;
        self.retiming.heir = Some(heir);
        Ok(())
    }

    /// Times polls otherwise from now on, if what does so has been loaded. Those that are open are
    /// cut off; no other is missed but while probes are placed anew. `None` if it has not been;
    /// or else why it cannot be.
    pub(super) fn retime(&mut self, sink: &mut dyn Sink) -> io::Result<Option<Result<(), String>>> {
        let Some(heir) = &self.retiming.heir else {
            return Ok(None);
        };
        let loaded = match heir.try_recv() {
            Err(TryRecvError::Empty) => return Ok(None),
            Err(TryRecvError::Disconnected) => Err("loading what does so failed".to_owned()),
            Ok(loaded) => loaded.map_err(|error| error.to_string()),
        };
        self.retiming.heir = None;
        match loaded.and_then(|heir| self.prepared(heir)) {
            Ok(heir) => self.change_over(heir, sink).map(Ok).map(Some),
            Err(why) => Ok(Some(Err(why))),
        }
    }

    /// With what is to be probed by now: libraries may have been loaded meanwhile.
    fn prepared(&self, mut heir: Heir) -> Result<Heir, String> {
        if !heir.kernel.has_room(&self.plan) {
            return Err("there is no room for the libraries that were loaded meanwhile".to_owned());
        }
        let written = heir.kernel.write_tables(&self.plan, PlanSize::default());
        written.map(|()| heir).map_err(|error| error.to_string())
    }

    fn change_over(&mut self, heir: Heir, sink: &mut dyn Sink) -> io::Result<()> {
        let now = self.span.now();
        self.pause(now)?;
        self.records.flush();
        self.drain(sink, None)?;
        self.settle_waiting(u64::MAX, sink)?;
        self.succeed(heir).map_err(io::Error::other)?;
        match self.go_on(now) {
            // Its end is noticed elsewhere.
            Err(_) if self.is_gone() => Ok(()),
            result => result.map_err(io::Error::other),
        }
    }

    /// Hands over: figures go on, and what the old one has cost and lost is kept.
    fn succeed(&mut self, heir: Heir) -> Result<(), AttachError> {
        let Heir {
            mut kernel,
            timing,
            options,
        } = heir;
        let unread = self.records.lost();
        self.totals.lost.events += unread.records;
        self.totals.lost.stacks += unread.stacks;
        spent_by(&self.kernel, &self.plan, &mut self.totals)?;
        kernel.count_on_from(&self.kernel)?;
        self.records = kernel.records()?;
        if options.kernel_log {
            self.messages = Some(kernel.messages()?);
        }
        self.options = options;
        self.dead_time = timing.dead_time;
        self.totals.prices = Some((&timing).into());
        let old = mem::replace(&mut self.kernel, kernel);
        thread::spawn(move || drop(old));
        self.time_by_entries();
        Ok(())
    }

    /// What else there is to entry-only timing, or no longer.
    fn time_by_entries(&mut self) {
        let is_light = self.options.is_light();
        let light = is_light.then(|| Light::new(self.options.pid, &self.planned));
        // If the process is gone, its end is noticed elsewhere.
        let light = light.and_then(Result::ok);
        if let Some(stacks) = &mut self.stacks {
            stacks.tell_ends(light.as_ref().map(Light::functions));
        }
        if let Some(probes) = self.source.probes_mut() {
            probes.light = light;
        }
    }
}

/// What is known of a price. The probes that it took to learn it are taken away beside this.
fn known(price: Price) -> ProbeTiming {
    thread::spawn(move || drop(price.probes));
    price.timing
}
