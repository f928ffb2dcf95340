//! The stack of a question, and what can be presumed where it shows nothing.

use std::collections::HashMap;

use loopprobe_common::{
    light::Place,
    records::{QUESTION_BYTES, STACK_HEAD, StackRecord},
    thread::Thread,
};

use crate::{
    collect::stacks::{raw_stack, syscall},
    diagnose::Waits,
    unwind::RawStack,
};

/// Pieces of stacks whose question has not come yet: one stack a thread.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    stacks: HashMap<u32, Stack>,
}

/// What lies behind the first [`STACK_HEAD`] bytes of a stack.
struct Stack {
    start_ns: u64,
    address: u64,
    bytes: Vec<u8>,
}

impl std::fmt::Debug for Stack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stack").finish_non_exhaustive()
    }
}

impl Pieces {
    /// Takes the next piece. One that does not follow the pieces before it is dropped, and what
    /// comes behind it too.
    pub(super) fn add(&mut self, record: &StackRecord, bytes: &[u8]) {
        let address = record.registers.sp;
        let stack = self.stacks.entry(record.tid).or_insert_with(|| Stack {
            start_ns: record.start_ns,
            address,
            bytes: Vec::new(),
        });
        if stack.start_ns != record.start_ns {
            *stack = Stack {
                start_ns: record.start_ns,
                address,
                bytes: Vec::new(),
            };
        }
        let follows = stack.address.wrapping_add(stack.bytes.len() as u64) == address;
        if follows && stack.bytes.len() + bytes.len() <= QUESTION_BYTES as usize {
            stack.bytes.extend_from_slice(bytes);
        }
    }

    /// The whole stack of a question.
    pub(super) fn stack(&mut self, record: &StackRecord, bytes: &[u8]) -> RawStack {
        let mut raw = raw_stack(record, bytes);
        let pieces = self.stacks.remove(&record.tid);
        let behind = record.registers.sp.wrapping_add(STACK_HEAD as u64);
        let fits = |stack: &Stack| stack.start_ns == record.start_ns && stack.address == behind;
        if let Some(pieces) = pieces.filter(|stack| raw.bytes.len() == STACK_HEAD && fits(stack)) {
            raw.bytes.extend_from_slice(&pieces.bytes);
        }
        raw
    }
}

/// Whether a poll of which the stack tells nothing is taken to be open. So it is on a worker in its
/// only poll that waits for something by which no worker parks, or is deeper on its stack than the
/// scheduler ever needs.
pub(super) fn is_presumed_open(record: &StackRecord) -> bool {
    let is_worker =
        record.depth == 1 && record.flags & (Thread::SHARED | Thread::LOCAL) == Thread::SHARED;
    is_worker && (record.place.distance == Place::DEEP || is_no_parking(record))
}

/// Whether the thread waits in a system call for something that is neither a futex, nor events, nor
/// the memory map.
fn is_no_parking(record: &StackRecord) -> bool {
    let stands_still = record.place.what & (Place::WHAT_POLL | Place::WHAT_EPOLL) == 0;
    let waits = syscall(record).and_then(|call| call.waits());
    stands_still
        && matches!(
            waits,
            Some(
                Waits::Descriptor
                    | Waits::Path(_)
                    | Waits::Sync
                    | Waits::Socket
                    | Waits::Time
                    | Waits::FileLock
                    | Waits::Child
                    | Waits::Start
            )
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    const NANOSLEEP: i64 = 230;
    const FUTEX: i64 = 202;
    const EPOLL_WAIT: i64 = 232;
    const MUNMAP: i64 = 11;

    fn record(syscall: i64, distance: u64) -> StackRecord {
        StackRecord {
            syscall,
            place: Place {
                ip: 1,
                distance,
                what: syscall as u64,
                target: 0,
            },
            flags: Thread::SHARED | Thread::WORKER,
            depth: 1,
            ..StackRecord::default()
        }
    }

    #[test]
    fn a_worker_that_sleeps_is_in_its_poll() {
        assert!(is_presumed_open(&record(NANOSLEEP, 400)));
        assert!(!is_presumed_open(&record(FUTEX, 400)));
        assert!(!is_presumed_open(&record(EPOLL_WAIT, 400)));
        assert!(!is_presumed_open(&record(MUNMAP, 400)));
        assert!(is_presumed_open(&record(FUTEX, Place::DEEP)));
    }

    #[test]
    fn nothing_is_presumed_of_a_thread_that_runs_a_root_future_or_polls_in_polls() {
        let local = StackRecord {
            flags: Thread::LOCAL,
            ..record(NANOSLEEP, 400)
        };
        let nested = StackRecord {
            depth: 2,
            ..record(NANOSLEEP, 400)
        };
        assert!(!is_presumed_open(&local));
        assert!(!is_presumed_open(&nested));
    }

    #[test]
    fn pieces_make_one_stack_if_they_are_of_the_same_moment() {
        let head = STACK_HEAD as u64;
        let mut question = StackRecord {
            tid: 7,
            start_ns: 5,
            entry_sp: 0x10_0000 + head + 40 * 1024,
            ..StackRecord::default()
        };
        question.registers.sp = 0x10_0000;
        let mut piece = question;
        piece.registers.sp += head;
        let bytes = vec![1; loopprobe_common::records::STACK_BYTES];
        let mut pieces = Pieces::default();
        pieces.add(&piece, &[2; 1024]);
        piece.registers.sp += 1024;
        pieces.add(&piece, &[3; 8]);
        let stack = pieces.stack(&question, &bytes);
        assert_eq!(stack.bytes.len(), STACK_HEAD + 1032);
        assert_eq!(
            stack.bytes[STACK_HEAD..]
                .iter()
                .filter(|b| **b == 3)
                .count(),
            8
        );
        piece.registers.sp = question.registers.sp + head;
        piece.start_ns = 4;
        pieces.add(&piece, &[2; 1024]);
        assert_eq!(pieces.stack(&question, &bytes).bytes.len(), STACK_HEAD);
    }
}
