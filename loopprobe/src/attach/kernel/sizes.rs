//! How large the tables of a load are made: for one target, or for several.

use aya::{EbpfLoader, util::nr_cpus};
use loopprobe_common::{
    health::MAX_DRIVERS,
    light::MAX_PLACES,
    records::{EVENT_RING_BYTES, MAX_BUSY, STACK_RING_BYTES},
    target::MAX_TARGETS,
    wake::MAX_WOKEN,
};

use super::{Capacity, Settings};

/// How many poll sites and task types a load for several targets has room for beside those of the
/// first one. Each type takes about 600 bytes a CPU.
const ROOM: u32 = 1024;
/// How many places a target may have answered of a load for several: a program has some dozens.
const PLACES_OF_EACH: u32 = MAX_PLACES / 4;
/// How many drivers such a load follows, as many times as a load for one.
const DRIVERS_TIMES: u32 = 16;

/// With so many CPUs or more the ring buffers are as large as they can be, with fewer as much
/// smaller: so many threads can fill them at once. Each of their bytes is mapped twice, and counts
/// twice for loopprobe.
const CPUS_OF_LARGEST_RINGS: u32 = 4;
/// A load that watches root futures alone has as much smaller ones: threads have one each, and tell
/// little of it.
const ROOTS_RINGS: u32 = 4;

/// The bytes of the ring buffers.
struct Rings {
    events: u32,
    stacks: u32,
}

impl Rings {
    /// Powers of two, all of them.
    fn of(settings: &Settings, is_shared: bool) -> Self {
        // Where it cannot be read, there is nothing to save.
        let cpus = nr_cpus().map_or(u32::MAX, |cpus| cpus as u32);
        let parts = match (is_shared, settings.roots_only) {
            (true, _) => 1,
            (false, is_roots) => {
                let cpus = cpus.min(CPUS_OF_LARGEST_RINGS).next_power_of_two();
                CPUS_OF_LARGEST_RINGS / cpus * if is_roots { ROOTS_RINGS } else { 1 }
            }
        };
        Self {
            events: EVENT_RING_BYTES / parts,
            stacks: STACK_RING_BYTES / parts,
        }
    }
}

/// How much there is room for.
pub(super) struct Sizes {
    pub(super) targets: u32,
    pub(super) sites: u32,
    pub(super) types: u32,
    /// Places that are answered, of each target.
    pub(super) places: u32,
    drivers: u32,
    rings: Rings,
}

impl Sizes {
    pub(super) fn of(settings: &Settings, is_shared: bool) -> Self {
        let Capacity { sites, types } = settings.capacity;
        // One site and one type are the canary's.
        let alone = Self {
            targets: 1,
            sites: sites + 1,
            types: types + 1,
            places: MAX_PLACES,
            drivers: MAX_DRIVERS,
            rings: Rings::of(settings, is_shared),
        };
        if !is_shared {
            return alone;
        }
        Self {
            targets: MAX_TARGETS,
            sites: alone.sites + ROOM,
            types: alone.types + ROOM,
            places: PLACES_OF_EACH,
            drivers: DRIVERS_TIMES * MAX_DRIVERS,
            rings: alone.rings,
        }
    }

    /// Of the ring buffer of stacks.
    pub(super) fn stack_ring_bytes(&self) -> u64 {
        self.rings.stacks.into()
    }

    /// Makes the tables so large. One that nobody asks for is as small as it can be.
    pub(super) fn apply(&self, loader: &mut EbpfLoader<'_>, settings: &Settings) {
        let Sizes { sites, types, .. } = *self;
        let (woken, delays) = match settings.lag {
            true => (MAX_WOKEN, types),
            false => (1, 1),
        };
        loader
            .map_max_entries("SITES", sites)
            .map_max_entries("VTABLES", types)
            .map_max_entries("ANSWERS", self.targets * self.places)
            .map_max_entries("DRIVERS", self.drivers)
            .map_max_entries("BUSY", if settings.slow_ns > 0 { MAX_BUSY } else { 1 })
            .map_max_entries("WOKEN", woken)
            .map_max_entries("DELAYS", delays)
            .map_max_entries("STATS", types)
            .map_max_entries("WORKER_TYPES", types)
            .map_max_entries("EVENTS", self.rings.events)
            .map_max_entries("STACKS", self.rings.stacks);
    }
}
