//! How many tasks a process has.

use crate::{
    model::TaskKind,
    process::ProcessError,
    runtime::{LoopCount, MappedImage, PoolCount, Runtimes, Searched, ServedType, TaskFinder},
};

/// How many tasks the event loops of a process have, without what they are. It may go from one
/// thread to another.
pub struct Population {
    finders: Vec<Box<dyn TaskFinder>>,
    /// Tasks that are members of a list that was not found.
    strays: usize,
}

impl std::fmt::Debug for Population {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Population")
            .field("strays", &self.strays)
            .finish_non_exhaustive()
    }
}

impl Population {
    /// Of a process that has these files mapped. `None` if the tasks of one of them cannot be
    /// found: the rest is not all.
    pub fn of(runtimes: Runtimes, pid: u32, images: &[MappedImage]) -> Option<Self> {
        let served = images.iter().flat_map(|mapped| &mapped.image.facts().sites);
        let served = served.flat_map(|site| &site.types);
        if images.is_empty() || !served.into_iter().all(is_told) {
            return None;
        }
        let finders = runtimes.iter().filter_map(|runtime| {
            let own = images
                .iter()
                .filter(|mapped| mapped.image.runtime().name() == runtime.name());
            let own: Vec<_> = own.cloned().collect();
            (!own.is_empty()).then(|| runtime.task_finder(pid, &own))
        });
        Some(Self {
            finders: finders.collect::<Option<_>>()?,
            strays: 0,
        })
    }

    /// Looks for event loops anew ([`TaskFinder::search`] says what it costs).
    ///
    /// # Errors
    /// If the process is gone.
    pub fn search(&mut self) -> Result<Searched, ProcessError> {
        let mut all = Searched::default();
        for finder in &mut self.finders {
            all.add(finder.search()?);
        }
        self.strays = all.strays;
        Ok(all)
    }

    /// How many tasks each loop has that the last search found and that is still there
    /// ([`TaskFinder::counts`]). `None` if there are tasks whose loop is not known, or if a loop's
    /// list changed too fast.
    pub fn counts(&mut self) -> Option<Vec<LoopCount>> {
        let counts = self.finders.iter_mut().map(|finder| finder.counts());
        let counts: Vec<_> = counts.flatten().collect();
        let is_whole = self.strays == 0 && counts.iter().all(LoopCount::is_whole);
        is_whole.then_some(counts)
    }

    /// The blocking pools of the loops that the last search found ([`TaskFinder::pools`]), if all
    /// are known, and there is one.
    pub fn pools(&mut self) -> Option<Vec<PoolCount>> {
        let pools = self.finders.iter_mut().map(|finder| finder.pools());
        let pools: Vec<_> = pools.collect::<Option<Vec<_>>>()?.concat();
        (self.strays == 0 && !pools.is_empty()).then_some(pools)
    }
}

/// Whether a type tells where its tasks keep what is read. Those of the blocking pool are not
/// counted.
fn is_told(served: &ServedType) -> bool {
    served.task.kind != TaskKind::Async
        || (served.scheduler_offset != 0 && served.id_offset != 0 && served.size != 0)
}
