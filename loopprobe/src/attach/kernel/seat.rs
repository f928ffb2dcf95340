//! A target's place in a load: its index, and the elements of tables that are its own.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use aya::{
    Pod,
    maps::{Array, HashMap as BpfHashMap, MapError, PerCpuArray, PerCpuValues},
    util::nr_cpus,
};
use loopprobe_common::{
    config::{Config, LOOP_TEXT_RANGES, Range, TaskLayout, UNKNOWN_TYPE, site_of_key},
    cost::{Cost, Part},
    counters::Counter,
    health::Longest,
    histogram::Stats,
    light::{Answered, Place},
    target::{MARKS, Own, canary_key, mark},
    wake::Woken,
    watch::{MAX_WORDS, Words},
};

use super::{
    Settings,
    load::{Load, Tables, map_error},
};
use crate::attach::AttachError;

/// A target's place. Dropping it makes room for another one.
pub(super) struct Seat {
    pub(super) load: Arc<Load>,
    /// The target's index.
    pub(super) target: u32,
    /// The number in the table `SITES` of each site of its plan.
    pub(super) sites: Vec<u32>,
    /// The number in the table `STATS` of each task type of its plan.
    pub(super) types: Vec<u32>,
    /// The other way round.
    type_of: HashMap<u32, u32>,
}

impl Seat {
    /// The first place of a load.
    ///
    /// # Errors
    ///
    /// [`AttachError::Map`].
    pub(super) fn first(load: &Arc<Load>, settings: &Settings) -> Result<Self, AttachError> {
        let seat = Self::take(load, settings)?;
        seat.ok_or_else(|| AttachError::Object("a load has no room for one target".to_owned()))
    }

    /// A place for another target; `None` if there is no room for it.
    ///
    /// # Errors
    ///
    /// [`AttachError::Map`].
    pub(super) fn take(load: &Arc<Load>, settings: &Settings) -> Result<Option<Self>, AttachError> {
        let mut tables = load.tables();
        let wanted = settings.capacity;
        let is_first = tables.keys.is_empty();
        if (tables.is_closed && !is_first)
            || tables.sites.left() < wanted.sites as usize
            || tables.types.left() < wanted.types as usize
            || tables.keys.contains_key(&settings.pid)
        {
            return Ok(None);
        }
        let Some(target) = tables.targets.take() else {
            return Ok(None);
        };
        // From here on it gives back what it has.
        let seat = Self {
            load: Arc::clone(load),
            target,
            sites: Vec::new(),
            types: Vec::new(),
            type_of: HashMap::new(),
        };
        let begun = tables
            .set_config(target, &settings.config)
            .and_then(|()| tables.set_key(settings.pid, Some(target)));
        drop(tables);
        begun.map(|()| Some(seat))
    }

    /// The plan's type of a number in the table `STATS`.
    pub(super) fn type_of(&self, row: u32) -> u32 {
        self.type_of.get(&row).copied().unwrap_or(UNKNOWN_TYPE)
    }

    /// The number in the table `STATS` of a type of the plan.
    pub(super) fn row_of(&self, index: u32) -> u32 {
        let row = self.types.get(index as usize);
        row.copied().unwrap_or(UNKNOWN_TYPE)
    }

    /// Whether so many sites and types have room, some of which it may have already.
    pub(super) fn has_room(&self, sites: usize, types: usize) -> bool {
        // One of each is the canary's.
        let spare = usize::from(self.load.canary().rows.is_none());
        let tables = self.load.tables();
        sites + spare <= self.sites.len() + tables.sites.left()
            && types + spare <= self.types.len() + tables.types.left()
    }

    /// Makes room for so many of each.
    ///
    /// # Errors
    ///
    /// [`AttachError::Object`] if there is none: see [`Self::has_room`].
    pub(super) fn grow(&mut self, sites: usize, types: usize) -> Result<(), AttachError> {
        let full = || AttachError::Object("a table is too small".to_owned());
        let mut tables = self.load.tables();
        while self.sites.len() < sites {
            self.sites.push(tables.sites.take().ok_or_else(full)?);
        }
        while self.types.len() < types {
            let row = tables.types.take().ok_or_else(full)?;
            self.type_of.insert(row, self.types.len() as u32);
            self.types.push(row);
        }
        Ok(())
    }

    /// Leaves no trace of the target in tables that others go on with.
    fn clear(&self, tables: &mut Tables) -> Result<(), AttachError> {
        let keys: Vec<u32> = tables
            .keys
            .iter()
            .filter(|(_, target)| **target == self.target)
            .map(|(key, _)| *key)
            .collect();
        for key in keys {
            tables.set_key(key, None)?;
        }
        tables.forget_threads(self.target)?;
        let target = u64::from(self.target);
        tables.forget::<Own, Woken>("WOKEN", |own| own.target == target)?;
        tables.forget::<Own, u64>("BUSY", |own| own.target == target)?;
        tables.forget::<Place, Answered>("ANSWERS", |place| place.target == target)?;
        let sites: HashSet<u64> = self.sites.iter().copied().map(u64::from).collect();
        tables.forget::<u64, TaskLayout>("VTABLES", |key| sites.contains(&site_of_key(*key)))?;
        tables.empty::<Words>("WORDS", self.target * MAX_WORDS, MAX_WORDS)?;
        let ranges = LOOP_TEXT_RANGES;
        tables.empty::<Range>("LOOP_TEXT", self.target * ranges, ranges)?;
        tables.empty::<u32>("BESIDE", self.target, 1)?;
        tables.empty_on_each_cpu::<u64>(
            "COUNTERS",
            self.target * Counter::COUNT,
            Counter::COUNT,
        )?;
        tables.empty_on_each_cpu::<Cost>("COSTS", self.target * Part::COUNT, Part::COUNT)?;
        tables.empty_on_each_cpu::<[Longest; 2]>("LONGEST_DELAY", self.target, 1)?;
        for row in &self.types {
            tables.empty_on_each_cpu::<Stats>("STATS", *row, 1)?;
            if self.load.purpose.has_delays() {
                tables.empty_on_each_cpu::<Stats>("DELAYS", *row, 1)?;
            }
            tables.empty::<u32>("WORKER_TYPES", *row, 1)?;
        }
        Ok(())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let load = Arc::clone(&self.load);
        let mut tables = load.tables();
        // A load that goes with its last target needs no order.
        if tables.is_closed {
            return;
        }
        // What could not be emptied is not used again.
        if self.clear(&mut tables).is_ok() {
            tables.targets.give_back([self.target]);
            tables.sites.give_back(self.sites.drain(..));
            tables.types.give_back(self.types.drain(..));
        }
        if let Some(post) = &tables.post {
            post.leave(self.target);
        }
    }
}

impl Tables {
    /// Changes what may change.
    ///
    /// # Errors
    ///
    /// [`AttachError::Map`].
    pub(super) fn set_config(&mut self, target: u32, config: &Config) -> Result<(), AttachError> {
        let mut map: Array<_, Config> = self.map_mut("CONFIG")?;
        map.set(target, config, 0).map_err(map_error("CONFIG"))
    }

    /// Says whose threads those of a process are, or that they are nobody's any more.
    ///
    /// # Errors
    ///
    /// [`AttachError::Map`].
    pub(super) fn set_key(&mut self, key: u32, target: Option<u32>) -> Result<(), AttachError> {
        const NAME: &str = "TARGETS";
        let mut map: BpfHashMap<_, u32, u32> = self.map_mut(NAME)?;
        match target {
            Some(target) => {
                map.insert(key, target, 0).map_err(map_error(NAME))?;
                self.keys.insert(key, target);
            }
            None => {
                there(map.remove(&key)).map_err(map_error(NAME))?;
                self.keys.remove(&key);
            }
        }
        let mut marks = [0_u8; MARKS];
        for key in self.keys.keys() {
            marks[mark(*key)] = 1;
        }
        let mut map: Array<_, [u8; MARKS]> = self.map_mut("MAY_BE_TARGET")?;
        map.set(0, marks, 0).map_err(map_error("MAY_BE_TARGET"))
    }

    /// Follows a thread of loopprobe's own for the target, and none that it followed before; 0 for
    /// none at all.
    ///
    /// # Errors
    ///
    /// [`AttachError::Map`].
    pub(super) fn follow(&mut self, target: u32, thread: u32) -> Result<(), AttachError> {
        let wanted = (thread != 0).then(|| canary_key(thread));
        let is_old = |key: u32| canary_key(key) == key && Some(key) != wanted;
        let old: Vec<u32> = self
            .keys
            .iter()
            .filter(|(key, of)| **of == target && is_old(**key))
            .map(|(key, _)| *key)
            .collect();
        for key in old {
            self.set_key(key, None)?;
        }
        match wanted {
            Some(key) if !self.keys.contains_key(&key) => self.set_key(key, Some(target)),
            _ => Ok(()),
        }
    }

    fn empty<T: Pod + Default>(
        &mut self,
        name: &'static str,
        from: u32,
        count: u32,
    ) -> Result<(), AttachError> {
        let mut map: Array<_, T> = self.map_mut(name)?;
        (from..from + count)
            .try_for_each(|index| map.set(index, T::default(), 0))
            .map_err(map_error(name))
    }

    fn empty_on_each_cpu<T: Pod + Default>(
        &mut self,
        name: &'static str,
        from: u32,
        count: u32,
    ) -> Result<(), AttachError> {
        let cpus = nr_cpus().map_err(|(what, source)| {
            AttachError::Object(format!("cannot count the CPUs: {what}: {source}"))
        })?;
        let mut map: PerCpuArray<_, T> = self.map_mut(name)?;
        for index in from..from + count {
            let values = PerCpuValues::try_from(vec![T::default(); cpus]).map_err(|source| {
                AttachError::Map {
                    map: name,
                    source: MapError::IoError(source),
                }
            })?;
            map.set(index, values, 0).map_err(map_error(name))?;
        }
        Ok(())
    }

    fn forget<K, V>(
        &mut self,
        name: &'static str,
        is_own: impl Fn(&K) -> bool,
    ) -> Result<(), AttachError>
    where
        K: Pod + Default,
        V: Pod + Default,
    {
        let found = self.elements::<K, V>(name)?;
        let mut map: BpfHashMap<_, K, V> = self.map_mut(name)?;
        let mut own = found.iter().map(|(key, _)| key).filter(|key| is_own(key));
        own.try_for_each(|key| there(map.remove(key)))
            .map_err(map_error(name))
    }
}

/// What is gone already need not be removed.
pub(super) fn there(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        result => result,
    }
}
