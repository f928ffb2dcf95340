//! The tables that the kernel side and user space share.

use aya::maps::{Array, HashMap as BpfHashMap, MapData, PerCpuArray, RingBuf};
use loopprobe_common::{
    config::{Config, LOOP_TEXT_RANGES, Range, Site, TaskLayout, site_of_key, with_site},
    cost::{Cost, Part},
    counters::Counter,
    health::{Driver, Longest},
    histogram::Stats,
    light::{Answered, Place},
    records::{STACK_SLOTS, StackSlot},
    target::Own,
    thread::{HOMES, Owner, Thread},
    watch::{MAX_WORDS, Words},
};

use super::{
    Kernel,
    load::{Tables, map_error},
    seat::there,
};
use crate::attach::{AttachError, Plan, PlanSize};

impl Kernel {
    /// Writes what the plan has got since it had the size `from`.
    ///
    /// # Errors
    ///
    /// [`AttachError::Map`].
    pub fn write_tables(&mut self, plan: &Plan, from: PlanSize) -> Result<(), AttachError> {
        self.seat.grow(plan.sites.len(), plan.types.len())?;
        let seat = &self.seat;
        let numbered = |layout: &TaskLayout| TaskLayout {
            index: seat.row_of(layout.index),
            ..*layout
        };
        let mut tables = seat.load.tables();
        for (site, row) in plan.sites.iter().zip(&seat.sites).skip(from.sites) {
            let site = Site {
                task: numbered(&site.task),
                ..*site
            };
            tables.set_site(*row, &site)?;
        }
        let mut vtables: BpfHashMap<_, u64, TaskLayout> = tables.map_mut("VTABLES")?;
        for (key, layout) in plan.shared.iter().skip(from.shared) {
            let Some(site) = seat.sites.get(site_of_key(*key) as usize) else {
                continue;
            };
            vtables
                .insert(with_site(*key, u64::from(*site)), numbered(layout), 0)
                .map_err(map_error("VTABLES"))?;
        }
        let mut text: Array<_, Range> = tables.map_mut("LOOP_TEXT")?;
        let first = seat.target * LOOP_TEXT_RANGES;
        for (index, range) in (first..first + LOOP_TEXT_RANGES).zip(&plan.text) {
            text.set(index, range, 0).map_err(map_error("LOOP_TEXT"))?;
        }
        Ok(())
    }

    /// The plan's type of a number that the programs know one by;
    /// [`loopprobe_common::config::UNKNOWN_TYPE`] for what is in no plan.
    pub(crate) fn type_of(&self, row: u32) -> u32 {
        self.seat.type_of(row)
    }

    /// Follows a thread of loopprobe's own like the process's from now on, and none before it; 0
    /// for none at all.
    ///
    /// # Errors
    ///
    /// [`AttachError::Map`].
    pub(crate) fn follow(&mut self, thread: u32) -> Result<(), AttachError> {
        self.seat.load.tables().follow(self.seat.target, thread)
    }

    /// Says where threads keep what they poll; of no other image from now on.
    ///
    /// # Errors
    ///
    /// [`AttachError::Map`].
    pub fn set_words(&mut self, words: &[Words]) -> Result<(), AttachError> {
        let mut tables = self.seat.load.tables();
        let mut map: Array<_, Words> = tables.map_mut("WORDS")?;
        for index in 0..MAX_WORDS {
            let words = words.get(index as usize).copied().unwrap_or_default();
            let index = self.seat.target * MAX_WORDS + index;
            map.set(index, words, 0).map_err(map_error("WORDS"))?;
        }
        Ok(())
    }

    /// Changes what may change.
    ///
    /// # Errors
    ///
    /// [`AttachError::Map`].
    pub fn set_config(&mut self, config: &Config) -> Result<(), AttachError> {
        self.seat.load.tables().set_config(self.seat.target, config)
    }

    /// How many places may be answered at a time.
    pub(crate) fn most_places(&self) -> usize {
        self.seat.load.most_places as usize
    }

    /// Tells the programs whether a poll is open when its thread is at a place: one of
    /// [`loopprobe_common::light::answer`].
    ///
    /// # Errors
    ///
    /// [`AttachError::Map`].
    pub fn answer(&mut self, place: &Place, answer: u32) -> Result<(), AttachError> {
        let mut tables = self.seat.load.tables();
        let mut answers: BpfHashMap<_, Place, Answered> = tables.map_mut("ANSWERS")?;
        let answered = Answered {
            answer,
            asked_again: 0,
        };
        answers
            .insert(place, answered, 0)
            .map_err(map_error("ANSWERS"))
    }

    /// Takes an answer back.
    ///
    /// # Errors
    ///
    /// [`AttachError::Map`].
    pub fn forget_answer(&mut self, place: &Place) -> Result<(), AttachError> {
        let mut tables = self.seat.load.tables();
        let mut answers: BpfHashMap<_, Place, Answered> = tables.map_mut("ANSWERS")?;
        answers.remove(place).map_err(map_error("ANSWERS"))
    }

    /// The ring buffer of the records of polls and of the process, where no session has it. It can
    /// be taken once.
    ///
    /// # Errors
    ///
    /// [`AttachError::Object`] the second time.
    pub fn take_events(&mut self) -> Result<RingBuf<MapData>, AttachError> {
        self.seat.load.tables().take_ring("EVENTS")
    }

    /// The polls of one task type, summed over the CPUs.
    ///
    /// # Errors
    ///
    /// [`AttachError::Map`].
    pub fn stats(&self, index: u32) -> Result<Stats, AttachError> {
        self.stats_in("STATS", index)
    }

    fn stats_in(&self, name: &'static str, index: u32) -> Result<Stats, AttachError> {
        // A type that is in no table yet has had no polls.
        let Some(row) = self.seat.types.get(index as usize) else {
            return Ok(Stats::default());
        };
        let tables = self.seat.load.tables();
        let map: PerCpuArray<_, Stats> = tables.map(name)?;
        let values = map.get(row, 0).map_err(map_error(name))?;
        let mut sum = Stats::default();
        for cpu in values.iter() {
            sum.add(cpu);
        }
        Ok(sum)
    }

    /// How long tasks of a type were scheduled before they were polled, summed over the CPUs.
    ///
    /// # Errors
    ///
    /// [`AttachError::Map`].
    pub fn delays(&self, index: u32) -> Result<Stats, AttachError> {
        self.stats_in("DELAYS", index)
    }

    /// The longest such time since a look.
    ///
    /// # Errors
    ///
    /// [`AttachError::Map`].
    pub fn longest_delay(&self, look: u64) -> Result<u64, AttachError> {
        const NAME: &str = "LONGEST_DELAY";
        let tables = self.seat.load.tables();
        let map: PerCpuArray<_, [Longest; 2]> = tables.map(NAME)?;
        let values = map.get(&self.seat.target, 0).map_err(map_error(NAME))?;
        let longest = values.iter().map(|both| Longest::since(both, look));
        Ok(longest.max().unwrap_or(0))
    }

    /// A counter, summed over the CPUs.
    ///
    /// # Errors
    ///
    /// [`AttachError::Map`].
    pub fn counter(&self, counter: Counter) -> Result<u64, AttachError> {
        let tables = self.seat.load.tables();
        let map: PerCpuArray<_, u64> = tables.map("COUNTERS")?;
        let index = self.seat.target * Counter::COUNT + counter as u32;
        let values = map.get(&index, 0).map_err(map_error("COUNTERS"))?;
        Ok(values.iter().sum())
    }

    /// What the programs say of their own cost, summed over the CPUs.
    ///
    /// # Errors
    ///
    /// [`AttachError::Map`].
    pub fn cost(&self, part: Part) -> Result<Cost, AttachError> {
        let tables = self.seat.load.tables();
        let map: PerCpuArray<_, Cost> = tables.map("COSTS")?;
        let index = self.seat.target * Part::COUNT + part as u32;
        let values = map.get(&index, 0).map_err(map_error("COSTS"))?;
        let mut sum = Cost::default();
        for cpu in values.iter() {
            sum.add(cpu);
        }
        Ok(sum)
    }

    /// The target's threads that poll tasks, by the kernel's thread id. A thread may change while
    /// it is read.
    ///
    /// # Errors
    ///
    /// [`AttachError::Map`].
    pub fn threads(&self) -> Result<Vec<(u32, Thread)>, AttachError> {
        let mut threads = self.seat.load.tables().threads(self.seat.target)?;
        threads.retain(|(_, thread)| thread.flags & Thread::CANARY == 0);
        for (_, thread) in &mut threads {
            thread.closure_type = self.type_of(thread.closure_type);
            for poll in &mut thread.polls {
                poll.task_type = self.type_of(poll.task_type);
            }
        }
        Ok(threads)
    }

    /// Forgets all threads and drivers. Only while no program changes anything: before the session,
    /// or while it is over.
    ///
    /// # Errors
    ///
    /// [`AttachError::Map`].
    pub(crate) fn forget_threads(&mut self) -> Result<(), AttachError> {
        self.seat.load.tables().forget_threads(self.seat.target)
    }

    /// The drivers that were turned, by descriptor.
    ///
    /// # Errors
    ///
    /// [`AttachError::Map`].
    pub fn drivers(&self) -> Result<Vec<(u32, Driver)>, AttachError> {
        self.seat.load.tables().drivers(self.seat.target)
    }

    /// Forgets a driver that is gone.
    ///
    /// # Errors
    ///
    /// [`AttachError::Map`].
    pub fn forget_driver(&mut self, descriptor: u32) -> Result<(), AttachError> {
        let mut tables = self.seat.load.tables();
        tables.forget_driver(self.seat.target, descriptor)
    }

    /// The stack that is kept of a thread, the kernel's `kernel_tid`, which waits in the poll that
    /// began at `poll_ns`.
    pub fn stack_of(
        &self,
        kernel_tid: u32,
        thread: &Thread,
        poll_ns: u64,
    ) -> Option<Box<StackSlot>> {
        if thread.off != Thread::OFF_BLOCKED {
            return None;
        }
        let tables = self.seat.load.tables();
        let map: Array<_, StackSlot> = tables.map("SLOTS").ok()?;
        let slot = map.get(&(kernel_tid % STACK_SLOTS), 0).map(Box::new).ok()?;
        let record = &slot.record;
        // It may hold an older stack, or another thread's.
        let is_its = record.tid == thread.tid
            && record.start_ns == thread.off_ns
            && record.poll_ns == poll_ns;
        is_its.then_some(slot)
    }
}

impl Tables {
    /// Says what the programs must know of a site.
    ///
    /// # Errors
    ///
    /// [`AttachError::Map`].
    pub(super) fn set_site(&mut self, row: u32, site: &Site) -> Result<(), AttachError> {
        let mut sites: Array<_, Site> = self.map_mut("SITES")?;
        sites.set(row, site, 0).map_err(map_error("SITES"))
    }

    /// A target's threads. One may change while it is read.
    fn threads(&self, target: u32) -> Result<Vec<(u32, Thread)>, AttachError> {
        let homes: Array<_, Thread> = self.map("HOMES")?;
        let own = |thread: &Thread| thread.target == target;
        // A thread that ends meanwhile is simply no longer there.
        let at_home = self.owners(target)?.into_iter().filter_map(|(place, tid)| {
            let thread = homes.get(&place, 0).ok()?;
            (thread.kernel_tid == tid && own(&thread)).then_some((tid, thread))
        });
        let mut threads: Vec<_> = at_home.collect();
        let crowded: Array<_, u32> = self.map("CROWDED")?;
        if crowded.get(&HOMES, 0).map_err(map_error("CROWDED"))? != 0 {
            let crowded: BpfHashMap<_, u32, Thread> = self.map("THREADS")?;
            let crowded = crowded.iter().filter_map(Result::ok);
            threads.extend(crowded.filter(|(_, thread)| own(thread)));
        }
        Ok(threads)
    }

    /// Places in `HOMES`, and which of a target's threads has each.
    fn owners(&self, target: u32) -> Result<Vec<(u32, u32)>, AttachError> {
        let owners = self.elements::<u32, Owner>("OWNERS")?;
        let own = owners.into_iter().filter(|(_, own)| own.target == target);
        Ok(own.map(|(place, own)| (place, own.tid)).collect())
    }

    /// Forgets a target's threads and drivers.
    ///
    /// # Errors
    ///
    /// [`AttachError::Map`].
    pub(super) fn forget_threads(&mut self, target: u32) -> Result<(), AttachError> {
        for (descriptor, _) in self.drivers(target)? {
            self.forget_driver(target, descriptor)?;
        }
        let own = self.threads(target)?;
        let at_home = self.owners(target)?;
        let mut owners: BpfHashMap<_, u32, Owner> = self.map_mut("OWNERS")?;
        for (place, _) in &at_home {
            // It may have gone meanwhile.
            let _ = owners.remove(place);
        }
        let mut homes: Array<_, Thread> = self.map_mut("HOMES")?;
        for (place, _) in at_home {
            homes
                .set(place, Thread::default(), 0)
                .map_err(map_error("HOMES"))?;
        }
        let mut crowded: BpfHashMap<_, u32, Thread> = self.map_mut("THREADS")?;
        for (tid, _) in own {
            let _ = crowded.remove(&tid);
        }
        Ok(())
    }

    fn drivers(&self, target: u32) -> Result<Vec<(u32, Driver)>, AttachError> {
        let drivers = self.elements::<Own, Driver>("DRIVERS")?;
        let own = drivers.into_iter();
        Ok(own
            .filter(|(own, _)| own.target == u64::from(target))
            .map(|(own, driver)| (own.key as u32, driver))
            .collect())
    }

    fn forget_driver(&mut self, target: u32, descriptor: u32) -> Result<(), AttachError> {
        let mut drivers: BpfHashMap<_, Own, Driver> = self.map_mut("DRIVERS")?;
        // Another one may have taken its place.
        there(drivers.remove(&Own::new(target, u64::from(descriptor))))
            .map_err(map_error("DRIVERS"))
    }
}
