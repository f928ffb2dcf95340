//! Where a session's polls come from: probes, or watching.
//!
//! What only one of them has, and how the two are told apart, is in here; what a session asks of
//! its source is in `observe/asked.rs`.

pub(super) mod closer;
pub(super) mod light;
mod roots;
mod stand_in;
mod suspects;
pub(super) mod watch;

use std::{
    collections::HashMap,
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
};

use loopprobe_common::records::PollRecord;

pub(crate) use self::{
    closer::Closer,
    light::{Light, untimeable},
    roots::WatchedRoots,
    stand_in::StandIn,
    watch::Watching,
};
use super::{ObserveError, Options, poll_key::PollKey};
use crate::{attach::PlannedImage, model::TaskType};

/// Where a session's polls come from.
pub(super) enum Source {
    /// Probes at the functions that poll tasks.
    Probes(Box<Probes>),
    /// What threads keep of what they poll, seen where they leave their CPU and in samples.
    Watching(Box<Watching>),
}

/// What only a session has that probes.
#[derive(Default)]
pub(super) struct Probes {
    /// `None` if returns are probed.
    pub light: Option<Light>,
    /// The file for which returns are probed although entries alone were asked for.
    pub exact_because_of: Option<PathBuf>,
    /// Long polls that were reported before the kernel side knew of their end, of which type, and
    /// how long they took.
    pub reported: HashMap<PollKey, (Option<TaskType>, u64)>,
    /// Polls whose question has not been answered yet.
    pub unsettled: Vec<PollRecord>,
    /// `None` where root futures are probed too.
    pub roots: Option<WatchedRoots>,
    /// `None` where nothing watches while they are away. Never beside watched roots: those are for
    /// sessions without a budget.
    pub stand_in: Option<StandIn>,
}

impl Source {
    /// For these options and the files that are probed or watched. `exact_because_of` is the file
    /// for which returns are probed although entries alone were asked for.
    ///
    /// # Errors
    ///
    /// If the process's memory map cannot be read, or no descriptor is left.
    pub(super) fn of(
        options: &Options,
        planned: &[PlannedImage],
        exact_because_of: Option<PathBuf>,
    ) -> Result<Self, ObserveError> {
        if options.is_watch() {
            let closer = Closer::of(options).map_err(ObserveError::System)?;
            return Ok(Self::Watching(Box::new(Watching::with(closer))));
        }
        let light = options.is_light().then(|| Light::new(options.pid, planned));
        Ok(Self::Probes(Box::new(Probes {
            light: light.transpose()?,
            exact_because_of,
            roots: WatchedRoots::of(options).map_err(ObserveError::System)?,
            stand_in: StandIn::of(options).map_err(ObserveError::System)?,
            ..Probes::default()
        })))
    }

    /// What probes; `None` if there are none.
    pub(super) fn probes(&self) -> Option<&Probes> {
        match self {
            Self::Probes(probes) => Some(probes),
            Self::Watching(_) => None,
        }
    }

    /// The same, to be changed.
    pub(super) fn probes_mut(&mut self) -> Option<&mut Probes> {
        match self {
            Self::Probes(probes) => Some(probes),
            Self::Watching(_) => None,
        }
    }

    /// What watches; `None` if there are probes.
    pub(super) fn watching(&self) -> Option<&Watching> {
        match self {
            Self::Probes(_) => None,
            Self::Watching(watching) => Some(watching),
        }
    }

    /// The same, to be changed.
    pub(super) fn watching_mut(&mut self) -> Option<&mut Watching> {
        match self {
            Self::Probes(_) => None,
            Self::Watching(watching) => Some(watching),
        }
    }

    /// With entry-only timing: what answers questions.
    pub(super) fn light(&self) -> Option<&Light> {
        self.probes()?.light.as_ref()
    }

    /// The same, to be changed.
    pub(super) fn light_mut(&mut self) -> Option<&mut Light> {
        self.probes_mut()?.light.as_mut()
    }

    /// With `--mode auto`: what looks closer.
    pub(super) fn closer(&self) -> Option<&Closer> {
        self.watching()?.closer.as_ref()
    }

    /// The same, to be changed.
    pub(super) fn closer_mut(&mut self) -> Option<&mut Closer> {
        self.watching_mut()?.closer.as_mut()
    }

    /// What watches root futures that cannot be probed.
    pub(super) fn roots(&self) -> Option<&WatchedRoots> {
        self.probes()?.roots.as_ref()
    }

    /// The same, to be changed.
    pub(super) fn roots_mut(&mut self) -> Option<&mut WatchedRoots> {
        self.probes_mut()?.roots.as_mut()
    }

    /// What watches while probes are away.
    pub(super) fn stand_in(&self) -> Option<&StandIn> {
        self.probes()?.stand_in.as_ref()
    }

    /// The same, to be changed.
    pub(super) fn stand_in_mut(&mut self) -> Option<&mut StandIn> {
        self.probes_mut()?.stand_in.as_mut()
    }

    /// Readable when a session beside this one has something to tell.
    pub(super) fn beside(&self) -> Option<BorrowedFd<'_>> {
        let ready = match self {
            Self::Probes(probes) => {
                let roots = probes.roots.as_ref().map(|roots| &roots.ready);
                roots.or(probes.stand_in.as_ref().map(|stand_in| &stand_in.ready))
            }
            Self::Watching(watching) => watching.closer.as_ref().map(|closer| &closer.ready),
        };
        ready.map(AsFd::as_fd)
    }

    /// What this source does not see, a sentence each.
    pub(super) fn limits(&self) -> Vec<String> {
        match self {
            Self::Probes(probes) => probes
                .exact_because_of
                .iter()
                .map(|path| exact_because_of(path))
                .collect(),
            Self::Watching(watching) => watching.unwatched.clone(),
        }
    }
}

fn exact_because_of(path: &Path) -> String {
    format!(
        "returns are probed too, in spite of --light: {} has no unwind information, and without it entries alone do not tell \
         where a poll ends",
        path.display()
    )
}
