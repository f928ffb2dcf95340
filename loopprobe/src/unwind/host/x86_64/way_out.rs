//! Where the return address lies, told by the code itself: it is read forward to the function's
//! return.
//!
//! Hand-written assembly and C libraries without call frame information (musl's) leave no other
//! way. On its way to the return, code undoes what it has done to the stack pointer; by how much is
//! the distance to the return address.

use std::collections::{HashSet, VecDeque};

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory};

use super::flow::{Base, FramePointer, Place, Pointers};

/// How many instructions are read at most. System call wrappers are some twenty long.
const MAX_INSTRUCTIONS: usize = 1 << 10;
/// How many bytes of code are read at once.
const WINDOW: usize = 256;
/// The longest instruction.
const MAX_LENGTH: usize = 15;

/// How a function returns from where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::unwind) struct WayOut {
    /// Where the return address lies.
    pub return_address: Place,
    /// The caller's frame pointer.
    pub frame_pointer: FramePointer,
}

/// Finds the shortest way from `start` to a return. `is_caller` says that a call is under way
/// there, so that the function's frame cannot be empty: the stack pointer is a multiple of 16 at a
/// call. `read` gives bytes of code.
pub(in crate::unwind) fn way_out(
    start: u64,
    is_caller: bool,
    read: impl Fn(u64, &mut [u8]) -> usize,
) -> Option<WayOut> {
    let mut info = InstructionInfoFactory::new();
    let mut queue = VecDeque::from([(start, Pointers::START)]);
    let mut seen = HashSet::new();
    let mut budget = MAX_INSTRUCTIONS;
    let mut bytes = [0; WINDOW];
    while let Some((at, pointers)) = queue.pop_front() {
        if budget == 0 {
            return None;
        }
        if !seen.insert(at) {
            continue;
        }
        let len = read(at, &mut bytes);
        match run(at, &bytes[..len], pointers, &mut budget, &mut info) {
            Exit::Return(pointers) => {
                let found = WayOut {
                    return_address: pointers.sp,
                    frame_pointer: pointers.bp,
                };
                if found.is_possible(is_caller) {
                    return Some(found);
                }
            }
            Exit::To(targets, pointers) => {
                queue.extend(targets.into_iter().flatten().map(|at| (at, pointers)));
            }
            Exit::Lost => {}
        }
    }
    None
}

impl WayOut {
    /// Whether a function can return so. Code that follows a call that never returns belongs to
    /// another function: that one saves what it restores itself, or has nothing on the stack.
    fn is_possible(&self, is_caller: bool) -> bool {
        let above = |place: Place| place.base == Base::Bp || place.offset >= 0;
        let keeps = match self.frame_pointer {
            FramePointer::Loaded(place) => above(place),
            FramePointer::At(place) => {
                place
                    == Place {
                        base: Base::Bp,
                        offset: 0,
                    }
            }
            FramePointer::Unknown => false,
        };
        let place = self.return_address;
        keeps && above(place) && !(is_caller && place == Pointers::START.sp)
    }
}

enum Exit {
    Return(Pointers),
    To([Option<u64>; 2], Pointers),
    Lost,
}

/// Runs through straight-line code.
fn run(
    start: u64,
    bytes: &[u8],
    mut pointers: Pointers,
    budget: &mut usize,
    info: &mut InstructionInfoFactory,
) -> Exit {
    let mut decoder = Decoder::with_ip(64, bytes, start, DecoderOptions::NONE);
    let mut instruction = Instruction::default();
    // What is left at the end of a full window may be cut off; it is read again from there.
    let full = bytes.len() == WINDOW;
    while decoder.can_decode() && *budget > 0 {
        if full && decoder.position() + MAX_LENGTH > bytes.len() {
            return Exit::To([Some(decoder.ip()), None], pointers);
        }
        *budget -= 1;
        decoder.decode_out(&mut instruction);
        if instruction.is_invalid() {
            return Exit::Lost;
        }
        match instruction.flow_control() {
            FlowControl::Return => return Exit::Return(pointers),
            FlowControl::UnconditionalBranch => {
                return Exit::To([Some(instruction.near_branch_target()), None], pointers);
            }
            FlowControl::ConditionalBranch => {
                let targets = [instruction.next_ip(), instruction.near_branch_target()];
                return Exit::To(targets.map(Some), pointers);
            }
            FlowControl::Next | FlowControl::Call | FlowControl::IndirectCall => {
                match pointers.after(&instruction, info) {
                    Some(after) => pointers = after,
                    None => return Exit::Lost,
                }
            }
            FlowControl::IndirectBranch
            | FlowControl::Interrupt
            | FlowControl::XbeginXabortXend
            | FlowControl::Exception => return Exit::Lost,
        }
    }
    Exit::Lost
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(code: &[u8], is_caller: bool) -> Option<WayOut> {
        way_out(0x1000, is_caller, |at, bytes| {
            let rest = usize::try_from(at - 0x1000)
                .ok()
                .and_then(|at| code.get(at..))
                .unwrap_or_default();
            let len = rest.len().min(bytes.len());
            bytes[..len].copy_from_slice(&rest[..len]);
            len
        })
    }

    fn sp(offset: i64) -> Place {
        Place {
            base: Base::Sp,
            offset,
        }
    }

    fn bp(offset: i64) -> Place {
        Place {
            base: Base::Bp,
            offset,
        }
    }

    #[test]
    fn a_system_call_wrapper_returns_at_once() {
        let found = of(&[0xc3], false).expect("a return");
        assert_eq!(found.return_address, sp(0));
        assert_eq!(found.frame_pointer, FramePointer::At(bp(0)));
    }

    #[test]
    fn what_was_put_on_the_stack_is_undone() {
        // add $0x28,%rsp; pop %rbx; pop %rbp; ret
        let found = of(&[0x48, 0x83, 0xc4, 0x28, 0x5b, 0x5d, 0xc3], true).expect("a return");
        assert_eq!(found.return_address, sp(0x38));
        assert_eq!(found.frame_pointer, FramePointer::Loaded(sp(0x30)));
    }

    #[test]
    fn a_frame_pointer_leads_out_where_the_stack_pointer_is_not_known() {
        // lea -0x10(%rbp),%rsp; pop %rbx; pop %r14; pop %rbp; ret, and: leave; ret
        let code: [&[u8]; 2] = [
            &[0x48, 0x8d, 0x65, 0xf0, 0x5b, 0x41, 0x5e, 0x5d, 0xc3],
            &[0xc9, 0xc3],
        ];
        for code in code {
            let found = of(code, true).expect("a return");
            assert_eq!(found.return_address, bp(8));
            assert_eq!(found.frame_pointer, FramePointer::Loaded(bp(0)));
        }
    }

    #[test]
    fn jumps_are_followed_either_way() {
        // je +2; ud2; pop %rax; ret
        let found = of(&[0x74, 0x02, 0x0f, 0x0b, 0x58, 0xc3], true).expect("a return");
        assert_eq!(found.return_address, sp(8));
        // jmp to itself: no end, and no return.
        assert_eq!(of(&[0xeb, 0xfe], false), None);
    }

    #[test]
    fn the_next_function_is_not_taken_for_this_one() {
        // push %rbp; mov %rsp,%rbp; call; pop %rbp; ret
        let next = [0x55, 0x48, 0x89, 0xe5, 0xe8, 0, 0, 0, 0, 0x5d, 0xc3];
        assert_eq!(of(&next, true), None);
        // xor %eax,%eax; ret
        assert_eq!(of(&[0x31, 0xc0, 0xc3], true), None);
        // and $-32,%rsp; ret
        assert_eq!(of(&[0x48, 0x83, 0xe4, 0xe0, 0xc3], false), None);
    }
}
