//! How large the tables of a load are made: for one target, or for several.

use aya::EbpfLoader;
use loopprobe_common::{
    health::MAX_DRIVERS,
    light::MAX_PLACES,
    records::{MAX_BUSY, STACK_RING_BYTES},
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

/// The bytes of the ring buffers of a load that watches root futures alone: threads have one each,
/// and tell little of it. Stacks wake their reader at a quarter of the full size, half of this one.
/// Each byte is mapped twice, and counts twice for loopprobe.
const ROOTS_EVENTS: u32 = 1 << 20;
const ROOTS_STACKS: u32 = STACK_RING_BYTES / 2;

/// How much there is room for.
pub(super) struct Sizes {
    pub(super) targets: u32,
    pub(super) sites: u32,
    pub(super) types: u32,
    /// Places that are answered, of each target.
    pub(super) places: u32,
    drivers: u32,
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
        }
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
            .map_max_entries("WORKER_TYPES", types);
        if settings.roots_only {
            loader
                .map_max_entries("EVENTS", ROOTS_EVENTS)
                .map_max_entries("STACKS", ROOTS_STACKS);
        }
    }
}
