//! The chain of awaits of a task, from debug information and the task's memory.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::names::{AwaitTypes, TypeId, readable};
use crate::{
    elf::{ProcAddr, Sections, VirtAddr},
    model::TaskKind,
    process::Memory,
    runtime::{AwaitChains, AwaitPoint, LiveTask},
};

/// Futures in futures; deeper ones are left out.
const MAX_DEPTH: usize = 64;

/// Reads chains of awaits.
#[derive(Debug)]
pub(super) struct Chains {
    types: AwaitTypes,
    /// What has been told already, by the types and states of the futures.
    told: HashMap<Vec<(TypeId, u64)>, Arc<[AwaitPoint]>>,
}

impl Chains {
    /// For the task types whose poll functions are these. `None` if debug information tells nothing
    /// of them.
    pub(super) fn read(debug: &Sections, polls: &HashSet<VirtAddr>) -> Option<Self> {
        let types = AwaitTypes::read(debug, polls);
        (!types.tasks.is_empty()).then(|| Self {
            types,
            told: HashMap::new(),
        })
    }

    /// The types and states of a task's futures, outermost first.
    fn states(&self, memory: &Memory, task: &LiveTask) -> Option<Vec<(TypeId, u64)>> {
        let known = self.types.tasks.get(&task.served.function)?;
        let scheduler = task
            .header
            .0
            .checked_add(task.served.scheduler_offset.into())?;
        let (at, size, value) = known.stage;
        let stage = number(memory, scheduler.checked_add_signed(at)?, size)?;
        if value.is_some_and(|value| stage != value & mask(size)) {
            return None;
        }
        let mut states = Vec::new();
        let mut next = Some((
            scheduler.checked_add_signed(known.from_scheduler)?,
            known.future,
        ));
        while let Some((address, of_type)) = next.filter(|_| states.len() < MAX_DEPTH) {
            let Some(machine) = &self.types.types.get(of_type)?.machine else {
                states.push((of_type, 0));
                break;
            };
            let at = address.checked_add(machine.state.offset)?;
            let state = number(memory, at, machine.state.size)?;
            states.push((of_type, state));
            let suspended = machine.suspended.get(&state);
            next = suspended
                .and_then(|suspended| suspended.awaitee)
                .and_then(|(offset, of_type)| Some((address.checked_add(offset)?, of_type)));
        }
        Some(states)
    }

    fn tell(&self, states: &[(TypeId, u64)]) -> Arc<[AwaitPoint]> {
        let point = |(of_type, state): &(TypeId, u64)| {
            let future = &self.types.types[*of_type];
            let suspended = future.machine.as_ref().and_then(|m| m.suspended.get(state));
            AwaitPoint {
                function: readable(&future.name, TaskKind::Async),
                location: suspended.and_then(|suspended| suspended.location.clone()),
            }
        };
        states.iter().map(point).collect()
    }
}

impl AwaitChains for Chains {
    fn of(&mut self, memory: &Memory, task: &LiveTask) -> Option<Arc<[AwaitPoint]>> {
        let states = self.states(memory, task)?;
        // Read once more: the task may have gone on meanwhile, and then its parts do not fit
        // together.
        if self.states(memory, task)? != states {
            return None;
        }
        if let Some(told) = self.told.get(&states) {
            return Some(Arc::clone(told));
        }
        let told = self.tell(&states);
        self.told.insert(states, Arc::clone(&told));
        Some(told)
    }
}

fn mask(size: u64) -> u64 {
    match size {
        8.. => u64::MAX,
        size => (1 << (8 * size)) - 1,
    }
}

fn number(memory: &Memory, address: u64, size: u64) -> Option<u64> {
    let mut bytes = [0; 8];
    let own = bytes.get_mut(..usize::try_from(size).ok()?)?;
    let wanted = own.len();
    (memory.read(ProcAddr(address), own) == wanted).then(|| u64::from_le_bytes(bytes))
}
