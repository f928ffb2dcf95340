//! At which await tasks wait.

use std::sync::Arc;

use super::At;
use crate::{
    code::StateMachines,
    elf::{Image, ProcAddr, Sections},
    model::TaskKind,
    process::Memory,
    runtime::{AwaitChains, AwaitPoint, LiveTask, RuntimeImage, TaskState},
};

/// The code of a file, which tells where its state machines keep their state.
#[derive(Debug)]
pub(super) struct Source {
    image: Arc<Image>,
    machines: StateMachines,
    /// What debug information tells.
    chains: Option<Box<dyn AwaitChains>>,
}

/// States below are none of an await: before the first poll, after the end, after a panic.
const RESERVED: u8 = 3;
/// Words read in one call of the kernel.
const BATCH: usize = 1024;

impl Source {
    /// Of an image with a runtime in it; `debug` is its separate debug file, where there is one.
    pub(super) fn of(
        image: Arc<Image>,
        found: &dyn RuntimeImage,
        debug: Option<&Sections>,
    ) -> Self {
        let machines = StateMachines::default();
        let own = image.sections().ok();
        let mut with_types = own.iter().chain(debug).filter(|s| s.has(".debug_info"));
        let chains = with_types.find_map(|sections| found.await_chains(sections));
        Self {
            image,
            machines,
            chains,
        }
    }

    /// The futures that a task awaits, if it waits and they are known.
    fn chain(&mut self, memory: &Memory, task: &LiveTask) -> Option<Arc<[AwaitPoint]>> {
        let waits = matches!(task.state, TaskState::Idle | TaskState::Scheduled);
        self.chains.as_mut().filter(|_| waits)?.of(memory, task)
    }

    /// The address of a task's state, if it waits and that is known. A running one changes its
    /// state only when it waits again.
    fn state_of(&mut self, task: &LiveTask) -> Option<ProcAddr> {
        let waits = matches!(task.state, TaskState::Idle | TaskState::Scheduled);
        let is_async = task.served.task.kind == TaskKind::Async;
        if !waits || !is_async {
            return None;
        }
        let offset = self
            .machines
            .state_byte(&self.image, task.served.function)?;
        // Behind the task's own state lies what is not its future.
        let is_inside = offset > task.served.id_offset && offset < task.served.size;
        let address = task.header.0.checked_add(offset.into())?;
        is_inside.then_some(ProcAddr(address))
    }
}

/// Where each of the tasks waits, in their order; `source_of` is the source of a task's image, if
/// there is one.
pub(super) fn places(
    memory: &Memory,
    sources: &mut [Source],
    tasks: &[LiveTask],
    source_of: impl Fn(usize) -> Option<usize>,
) -> Vec<At> {
    let mut found = vec![At::Unknown; tasks.len()];
    let known: Vec<(usize, ProcAddr)> = tasks
        .iter()
        .enumerate()
        .filter_map(|(index, task)| {
            let source = sources.get_mut(source_of(task.image)?)?;
            Some((index, source.state_of(task)?))
        })
        .collect();
    let mut rest = known.as_slice();
    while !rest.is_empty() {
        let batch = &rest[..rest.len().min(BATCH)];
        let words: Vec<_> = batch
            .iter()
            .map(|(_, at)| (ProcAddr(at.0 & !7), 1))
            .collect();
        let mut states = vec![0; batch.len()];
        let read = memory.places(&words, &mut states);
        for ((index, at), word) in batch.iter().zip(&states).take(read) {
            found[*index] = place(word.to_le_bytes()[(at.0 & 7) as usize]);
        }
        // A task that could not be read is gone.
        let done = if read < batch.len() { read + 1 } else { read };
        rest = &rest[done..];
    }
    found
}

/// The chains of awaits of the tasks, in their order.
pub(super) fn chains(
    memory: &Memory,
    sources: &mut [Source],
    tasks: &[LiveTask],
    source_of: impl Fn(usize) -> Option<usize>,
) -> Vec<Option<Arc<[AwaitPoint]>>> {
    let chain = |task: &LiveTask| {
        let source = sources.get_mut(source_of(task.image)?)?;
        source.chain(memory, task)
    };
    tasks.iter().map(chain).collect()
}

fn place(state: u8) -> At {
    match state {
        0 => At::Beginning,
        state => match state.checked_sub(RESERVED) {
            Some(number) => At::Await(u32::from(number) + 1),
            None => At::Unknown,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_numbered_as_the_compiler_does() {
        let places: Vec<_> = [0, 1, 2, 3, 9].into_iter().map(place).collect();
        let (unknown, at) = (At::Unknown, At::Await);
        assert_eq!(places, [At::Beginning, unknown, unknown, at(1), at(7)]);
    }
}
