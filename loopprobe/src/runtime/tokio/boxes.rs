//! Names for tasks whose type is only `Pin<Box<dyn Future>>`, or a library's wrapper around one.

use loopprobe_common::thread::STAGE_WORDS;

use super::names::{BoxedFutures, ProcessMemory};
use crate::{
    elf::ProcAddr,
    model::TaskType,
    process::{Memory, ProcessError},
    runtime::{RuntimeInstance, TaskRef},
};

/// Names boxed futures of one process.
#[derive(Debug)]
pub(super) struct Boxes {
    futures: BoxedFutures,
    memory: Memory,
}

impl Boxes {
    /// For a process.
    ///
    /// # Errors
    ///
    /// If it is gone.
    pub(super) fn of(pid: u32) -> Result<Self, ProcessError> {
        Ok(Self {
            futures: BoxedFutures::new(pid)?,
            memory: Memory::of(pid),
        })
    }
}

impl RuntimeInstance for Boxes {
    fn refresh(&mut self) {
        // If it has ended, there is nothing more to name.
        let _ = self.futures.refresh();
    }

    /// The type of the future in the box of a polled task, or in a library's wrapper, if it is one.
    fn name(&mut self, task: &TaskRef<'_>) -> Option<TaskType> {
        if !task.served.ask_memory {
            let memory = AtEntry::nothing_of(self.memory);
            return self.futures.wrapped(&memory, task);
        }
        let stage = u64::from(task.served.id_offset).checked_add(8)?;
        let memory = AtEntry {
            stage: ProcAddr(task.header.0.checked_add(stage)?),
            words: task.beginning,
            now: self.memory,
        };
        self.futures.name(&memory, task.served, task.header)
    }
}

/// The target's memory, but with the beginning of the task's future as it was when the poll began:
/// a poll that completes its task leaves nothing of it.
struct AtEntry {
    stage: ProcAddr,
    words: [u64; STAGE_WORDS],
    now: Memory,
}

impl AtEntry {
    /// As the memory is now, all of it.
    fn nothing_of(now: Memory) -> Self {
        Self {
            stage: ProcAddr(0),
            words: [0; STAGE_WORDS],
            now,
        }
    }
}

impl ProcessMemory for AtEntry {
    fn read(&self, address: ProcAddr, buffer: &mut [u8]) -> usize {
        if address != self.stage || self.words == [0; STAGE_WORDS] {
            return self.now.read(address, buffer);
        }
        let bytes = self.words.iter().flat_map(|word| word.to_ne_bytes());
        buffer
            .iter_mut()
            .zip(bytes)
            .map(|(to, from)| *to = from)
            .count()
    }
}
