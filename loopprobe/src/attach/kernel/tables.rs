//! The tables that the kernel side and user space share.

use aya::{
    Ebpf,
    maps::{Array, HashMap as BpfHashMap, Map, MapData, MapError, PerCpuArray, RingBuf},
};
use loopprobe_common::{
    config::{Config, LOOP_TEXT_RANGES, Range, Site, TaskLayout},
    cost::{Cost, Part},
    counters::Counter,
    health::{Driver, Longest},
    histogram::Stats,
    light::Place,
    records::{STACK_SLOTS, StackSlot},
    thread::Thread,
    watch::{MAX_WORDS, Words},
};

use super::Kernel;
use crate::attach::{AttachError, Plan, PlanSize};

impl Kernel {
    /// Writes what the plan has got since it had the size `from`.
    ///
    /// # Errors
    ///
    /// [`AttachError::Map`].
    pub fn write_tables(&mut self, plan: &Plan, from: PlanSize) -> Result<(), AttachError> {
        let mut sites: Array<_, Site> = self.map_mut("SITES")?;
        for (index, site) in plan.sites.iter().enumerate().skip(from.sites) {
            sites
                .set(index as u32, site, 0)
                .map_err(map_error("SITES"))?;
        }
        let mut vtables: BpfHashMap<_, u64, TaskLayout> = self.map_mut("VTABLES")?;
        for (address, layout) in plan.shared.iter().skip(from.shared) {
            vtables
                .insert(address, layout, 0)
                .map_err(map_error("VTABLES"))?;
        }
        let mut text: Array<_, Range> = self.map_mut("LOOP_TEXT")?;
        for (index, range) in plan.text.iter().enumerate().take(LOOP_TEXT_RANGES as usize) {
            text.set(index as u32, range, 0)
                .map_err(map_error("LOOP_TEXT"))?;
        }
        Ok(())
    }

    /// Writes the site of loopprobe's own function.
    pub(in crate::attach) fn write_canary(&mut self, site: &Site) -> Result<(), AttachError> {
        let index = self.capacity.sites;
        let mut sites: Array<_, Site> = self.map_mut("SITES")?;
        sites.set(index, site, 0).map_err(map_error("SITES"))
    }

    /// How many blocks of loopprobe's own were counted.
    ///
    /// # Errors
    ///
    /// [`AttachError::Map`].
    pub(crate) fn canary_polls(&self) -> Result<u64, AttachError> {
        Ok(self.stats(self.capacity.types)?.polls)
    }

    /// Says where threads keep what they poll; of no other image from now on.
    ///
    /// # Errors
    ///
    /// [`AttachError::Map`].
    pub fn set_words(&mut self, words: &[Words]) -> Result<(), AttachError> {
        let mut map: Array<_, Words> = self.map_mut("WORDS")?;
        for index in 0..MAX_WORDS {
            let words = words.get(index as usize).copied().unwrap_or_default();
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
        set_config(&mut self.ebpf, config)
    }

    /// Tells the programs whether a poll is open when its thread is at a place: one of
    /// [`loopprobe_common::light::answer`].
    ///
    /// # Errors
    ///
    /// [`AttachError::Map`].
    pub fn answer(&mut self, place: &Place, answer: u32) -> Result<(), AttachError> {
        let mut answers: BpfHashMap<_, Place, u32> = self.map_mut("ANSWERS")?;
        answers
            .insert(place, answer, 0)
            .map_err(map_error("ANSWERS"))
    }

    /// Takes an answer back.
    ///
    /// # Errors
    ///
    /// [`AttachError::Map`].
    pub fn forget_answer(&mut self, place: &Place) -> Result<(), AttachError> {
        let mut answers: BpfHashMap<_, Place, u32> = self.map_mut("ANSWERS")?;
        answers.remove(place).map_err(map_error("ANSWERS"))
    }

    /// The ring buffer of the records of polls and of the process. It can be taken once.
    ///
    /// # Errors
    ///
    /// [`AttachError::Object`] the second time.
    pub fn take_events(&mut self) -> Result<RingBuf<MapData>, AttachError> {
        self.take_ring("EVENTS")
    }

    /// The ring buffer of stacks. It can be taken once.
    ///
    /// # Errors
    ///
    /// [`AttachError::Object`] the second time.
    pub fn take_stacks(&mut self) -> Result<RingBuf<MapData>, AttachError> {
        self.take_ring("STACKS")
    }

    fn take_ring(&mut self, name: &'static str) -> Result<RingBuf<MapData>, AttachError> {
        let map = self
            .ebpf
            .take_map(name)
            .ok_or_else(|| AttachError::Object(format!("no map {name}")))?;
        RingBuf::try_from(map).map_err(map_error(name))
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
        let map: PerCpuArray<_, Stats> = self.map(name)?;
        let values = map.get(&index, 0).map_err(map_error(name))?;
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
        let map: PerCpuArray<_, [Longest; 2]> = self.map(NAME)?;
        let values = map.get(&0, 0).map_err(map_error(NAME))?;
        let longest = values.iter().map(|both| Longest::since(both, look));
        Ok(longest.max().unwrap_or(0))
    }

    /// A counter, summed over the CPUs.
    ///
    /// # Errors
    ///
    /// [`AttachError::Map`].
    pub fn counter(&self, counter: Counter) -> Result<u64, AttachError> {
        let map: PerCpuArray<_, u64> = self.map("COUNTERS")?;
        let values = map
            .get(&(counter as u32), 0)
            .map_err(map_error("COUNTERS"))?;
        Ok(values.iter().sum())
    }

    /// What the programs say of their own cost, summed over the CPUs.
    ///
    /// # Errors
    ///
    /// [`AttachError::Map`].
    pub fn cost(&self, part: Part) -> Result<Cost, AttachError> {
        let map: PerCpuArray<_, Cost> = self.map("COSTS")?;
        let values = map.get(&(part as u32), 0).map_err(map_error("COSTS"))?;
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
        let owners: BpfHashMap<_, u32, u32> = self.map("OWNERS")?;
        let homes: Array<_, Thread> = self.map("HOMES")?;
        let crowded: BpfHashMap<_, u32, Thread> = self.map("THREADS")?;
        // A thread that ends meanwhile is simply no longer there.
        let at_home = owners.iter().filter_map(|owner| {
            let (place, tid) = owner.ok()?;
            let thread = homes.get(&place, 0).ok()?;
            (thread.kernel_tid == tid).then_some((tid, thread))
        });
        Ok(at_home
            .chain(crowded.iter().filter_map(Result::ok))
            .filter(|(_, thread)| thread.flags & Thread::CANARY == 0)
            .collect())
    }

    /// Forgets all threads and drivers. Only while no program changes anything: before the session,
    /// or while it is over.
    ///
    /// # Errors
    ///
    /// [`AttachError::Map`].
    pub(crate) fn forget_threads(&mut self) -> Result<(), AttachError> {
        for (descriptor, _) in self.drivers()? {
            self.forget_driver(descriptor)?;
        }
        let mut owners: BpfHashMap<_, u32, u32> = self.map_mut("OWNERS")?;
        let places: Vec<u32> = owners.keys().filter_map(Result::ok).collect();
        for place in &places {
            // It may have gone meanwhile.
            let _ = owners.remove(place);
        }
        let mut homes: Array<_, Thread> = self.map_mut("HOMES")?;
        for place in places {
            homes
                .set(place, Thread::default(), 0)
                .map_err(map_error("HOMES"))?;
        }
        let mut crowded: BpfHashMap<_, u32, Thread> = self.map_mut("THREADS")?;
        let tids: Vec<u32> = crowded.keys().filter_map(Result::ok).collect();
        for tid in tids {
            let _ = crowded.remove(&tid);
        }
        Ok(())
    }

    /// The drivers that were turned, by descriptor.
    ///
    /// # Errors
    ///
    /// [`AttachError::Map`].
    pub fn drivers(&self) -> Result<Vec<(u32, Driver)>, AttachError> {
        let drivers: BpfHashMap<_, u32, Driver> = self.map("DRIVERS")?;
        // One that gives way meanwhile is simply no longer there.
        Ok(drivers.iter().filter_map(Result::ok).collect())
    }

    /// Forgets a driver that is gone.
    ///
    /// # Errors
    ///
    /// [`AttachError::Map`].
    pub fn forget_driver(&mut self, descriptor: u32) -> Result<(), AttachError> {
        let mut drivers: BpfHashMap<_, u32, Driver> = self.map_mut("DRIVERS")?;
        match drivers.remove(&descriptor) {
            // Another one took its place.
            Err(MapError::KeyNotFound) => Ok(()),
            result => result.map_err(map_error("DRIVERS")),
        }
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
        let map: Array<_, StackSlot> = self.map("SLOTS").ok()?;
        let slot = map.get(&(kernel_tid % STACK_SLOTS), 0).map(Box::new).ok()?;
        let record = &slot.record;
        // It may hold an older stack, or another thread's.
        let is_its = record.tid == thread.tid
            && record.start_ns == thread.off_ns
            && record.poll_ns == poll_ns;
        is_its.then_some(slot)
    }

    fn map<'a, T>(&'a self, name: &'static str) -> Result<T, AttachError>
    where
        T: TryFrom<&'a Map, Error = MapError>,
    {
        let map = self
            .ebpf
            .map(name)
            .ok_or_else(|| AttachError::Object(format!("no map {name}")))?;
        T::try_from(map).map_err(map_error(name))
    }

    fn map_mut<'a, T>(&'a mut self, name: &'static str) -> Result<T, AttachError>
    where
        T: TryFrom<&'a mut Map, Error = MapError>,
    {
        let map = self
            .ebpf
            .map_mut(name)
            .ok_or_else(|| AttachError::Object(format!("no map {name}")))?;
        T::try_from(map).map_err(map_error(name))
    }
}

fn map_error(map: &'static str) -> impl Fn(MapError) -> AttachError {
    move |source| AttachError::Map { map, source }
}

pub(super) fn set_config(ebpf: &mut Ebpf, config: &Config) -> Result<(), AttachError> {
    const NAME: &str = "CONFIG";
    let map = ebpf
        .map_mut(NAME)
        .ok_or_else(|| AttachError::Object(format!("no map {NAME}")))?;
    let mut map: Array<_, Config> = map.try_into().map_err(map_error(NAME))?;
    map.set(0, config, 0).map_err(map_error(NAME))
}
