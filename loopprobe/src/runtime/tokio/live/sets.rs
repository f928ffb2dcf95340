//! The sets of futures that idle tasks poll, and whose future it is that one of them holds.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
};

use super::{around::Around, future_set::FutureSet, scan, vtables::Vtables};
use crate::{elf::ProcAddr, process::Memory};

/// Sets within sets.
pub(super) const MAX_DEPTH: usize = 4;

/// All that were found.
#[derive(Debug, Default)]
pub(super) struct Sets {
    /// By queue; none where two readings are possible.
    sets: HashMap<u64, Option<FutureSet>>,
    /// Whose queue each member points to; none where there are two.
    members: HashMap<u64, Option<u64>>,
    /// Queues whose members have not been looked for.
    unsought: HashSet<u64>,
}

impl Sets {
    /// Looks for one whose waker's data is at the place that this is around.
    pub(super) fn see(&mut self, memory: &Memory, vtables: &Vtables, around: &Around) {
        let found = FutureSet::at(memory, around, |vtable| vtables.is_one(vtable));
        let Some(set) = found else { return };
        let queue = set.queue;
        let known = self.sets.get_mut(&queue);
        if let Some(known) = known {
            *known = known.take().filter(|known| *known == set);
        } else {
            self.sets.insert(queue, Some(set));
            self.unsought.insert(queue);
        }
    }

    /// Looks for the members of those that were found since the last call, and gives these.
    pub(super) fn seek_members(
        &mut self,
        memory: &Memory,
        ranges: &[Range<ProcAddr>],
    ) -> HashSet<u64> {
        let queues = std::mem::take(&mut self.unsought);
        let mut places: HashMap<u64, Vec<ProcAddr>> = HashMap::new();
        for (place, queue) in scan::places_of(memory, ranges, &queues) {
            places.entry(queue).or_default().push(place);
        }
        let mut found = HashSet::new();
        for (queue, places) in places {
            let set = self.sets.get(&queue).and_then(Option::as_ref);
            for member in set.map_or_else(Vec::new, |set| set.members(memory, &places)) {
                let own = self.members.entry(member).or_insert(Some(queue));
                *own = own.filter(|own| *own == queue);
                found.insert(member);
            }
        }
        found
    }

    /// Who is woken by a waker with this data: itself, if it is no member of a set, or who polled
    /// the set last. `None` where that cannot be told.
    pub(super) fn woken_by(&self, data: u64) -> Option<u64> {
        let mut data = data;
        for _ in 0..=MAX_DEPTH {
            let Some(queue) = self.members.get(&data) else {
                return Some(data);
            };
            data = self.set((*queue)?)?.polled_by;
        }
        None
    }

    /// Whether the future with this waker's data waits to be polled, as far as that can be told.
    pub(super) fn is_woken(&self, memory: &Memory, data: u64) -> bool {
        let queue = self.members.get(&data).copied().flatten();
        let set = queue.and_then(|queue| self.set(queue));
        set.is_none_or(|set| set.is_woken(memory, data))
    }

    fn set(&self, queue: u64) -> Option<&FutureSet> {
        self.sets.get(&queue)?.as_ref()
    }
}
