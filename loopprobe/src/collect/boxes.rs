//! Names for tasks whose type is only `Pin<Box<dyn Future>>`.

use loopprobe_common::thread::{OpenPoll, STAGE_WORDS};

use crate::{
    elf::ProcAddr,
    model::TaskType,
    process::ProcessError,
    runtime::tokio::{BoxedFutures, ProcessMemory, Vtable, may_be_boxed},
    unwind::Memory,
};

/// Names boxed futures of one process.
#[derive(Debug)]
pub struct Boxes {
    futures: BoxedFutures,
    memory: Memory,
}

impl Boxes {
    /// For a process.
    ///
    /// # Errors
    ///
    /// If it is gone.
    pub fn of(pid: u32) -> Result<Self, ProcessError> {
        Ok(Self {
            futures: BoxedFutures::new(pid)?,
            memory: Memory::of(pid),
        })
    }

    /// The process has mapped other files.
    pub fn refresh(&mut self) {
        // If it has ended, there is nothing more to name.
        let _ = self.futures.refresh();
    }

    /// The type of the future in the box of a polled task, if it is one.
    pub fn name(&mut self, vtable: &Vtable, poll: &OpenPoll) -> Option<TaskType> {
        if !may_be_boxed(&vtable.task) {
            return None;
        }
        let memory = AtEntry {
            stage: ProcAddr(
                poll.header
                    .checked_add(u64::from(vtable.id_offset))?
                    .checked_add(8)?,
            ),
            words: poll.stage,
            now: self.memory,
        };
        self.futures.name(&memory, vtable, ProcAddr(poll.header))
    }
}

/// The target's memory, but with the beginning of the task's future as it was when the poll began: a poll that completes its
/// task leaves nothing of it.
struct AtEntry {
    stage: ProcAddr,
    words: [u64; STAGE_WORDS],
    now: Memory,
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
