//! Where the return address is, told by the code itself: it is read forward to the function's
//! return.
//!
//! Hand-written assembly and C libraries without call frame information (musl's) leave no other
//! way.

use std::collections::{HashSet, VecDeque};

use crate::{
    code::aarch64::instruction::{Instruction, Kind, LENGTH, LINK, STACK, instructions},
    elf::VirtAddr,
};

/// How many instructions are read at most. System call wrappers are some twenty long.
const MAX_INSTRUCTIONS: usize = 1 << 10;
/// How many bytes of code are read at once.
const WINDOW: usize = 256;
/// The frame pointer.
const FRAME: u8 = 29;

/// Where the return address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::unwind) enum ReturnAddress {
    /// In the link register.
    InLink,
    /// So many bytes from the stack pointer.
    At(i64),
}

/// How a function returns from where it is. Distances are from the stack pointer there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::unwind) struct WayOut {
    /// Where it returns to.
    pub(super) return_address: ReturnAddress,
    /// Where the caller's frame pointer lies; `None`: in its register.
    pub(super) frame_pointer: Option<i64>,
    /// The stack pointer behind the return.
    pub(super) frame: i64,
}

/// What is known on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct State {
    /// How far the stack pointer is above where it was.
    sp: i64,
    /// `None`: a call has left another address there.
    link: Option<ReturnAddress>,
    frame_pointer: Option<i64>,
}

/// Finds the shortest way from `start` to a return. `is_caller` says that a call is under way
/// there: then the link register holds its return address, not the function's. `read` gives bytes
/// of code.
pub(in crate::unwind) fn way_out(
    start: u64,
    is_caller: bool,
    read: impl Fn(u64, &mut [u8]) -> usize,
) -> Option<WayOut> {
    let first = State {
        sp: 0,
        link: (!is_caller).then_some(ReturnAddress::InLink),
        frame_pointer: None,
    };
    let mut queue = VecDeque::from([(start, first)]);
    let (mut seen, mut left) = (HashSet::new(), MAX_INSTRUCTIONS);
    let mut bytes = [0; WINDOW];
    while let Some((at, mut state)) = queue.pop_front().filter(|_| left > 0) {
        if !seen.insert(at) {
            continue;
        }
        let len = read(at, &mut bytes);
        let mut next = VirtAddr(at);
        let mut goes_on = true;
        for (address, instruction) in instructions(&bytes[..len], VirtAddr(at)) {
            left = left.saturating_sub(1);
            next = VirtAddr(address.0.wrapping_add(LENGTH));
            match instruction.kind {
                Kind::Return => {
                    if let Some(found) = state.way_out() {
                        return Some(found);
                    }
                    goes_on = false;
                }
                // A procedure linkage table's: the function that it leads to returns for it.
                Kind::JumpThrough(16 | 17) if state == first && !is_caller => {
                    return state.way_out();
                }
                Kind::Jump(target) => {
                    queue.push_back((target.0, state));
                    goes_on = false;
                }
                Kind::Branch(target) => queue.push_back((target.0, state)),
                Kind::Trap | Kind::JumpThrough(_) => goes_on = false,
                _ => match state.after(&instruction) {
                    Some(after) => state = after,
                    None => goes_on = false,
                },
            }
            if !goes_on || left == 0 {
                break;
            }
        }
        if goes_on && next.0 != at {
            queue.push_back((next.0, state));
        }
    }
    None
}

impl State {
    fn way_out(&self) -> Option<WayOut> {
        Some(WayOut {
            return_address: self.link?,
            frame_pointer: self.frame_pointer,
            frame: self.sp,
        })
        .filter(|found| found.frame >= 0)
    }

    /// What is known behind an instruction; `None` where the stack pointer is lost.
    fn after(mut self, instruction: &Instruction) -> Option<Self> {
        let loads = Loads::of(instruction.word);
        match (instruction.kind, loads) {
            (Kind::Add(STACK, STACK, number), _) => self.sp = self.sp.checked_add(number)?,
            (Kind::Call(_) | Kind::CallThrough(_), _) => self.link = None,
            (Kind::Load(register, STACK, offset), _) => {
                self.load(register, self.sp.checked_add(offset)?);
            }
            (_, Some(loads)) => {
                let from = self.sp.checked_add(loads.before)?;
                for (index, register) in loads.registers.into_iter().flatten().enumerate() {
                    self.load(register, from.checked_add(8 * index as i64)?);
                }
                self.sp = from.checked_add(loads.after)?;
            }
            _ if instruction.may_write(STACK) => return None,
            _ => {
                if instruction.may_write(LINK) {
                    self.link = None;
                }
                // A frame pointer that is made anew is this function's own.
            }
        }
        Some(self)
    }

    fn load(&mut self, register: u8, from: i64) {
        match register {
            LINK => self.link = Some(ReturnAddress::At(from)),
            FRAME => self.frame_pointer = Some(from),
            _ => {}
        }
    }
}

/// `ldp` of two whole registers and `ldr` of one, from the stack, that may move its pointer: by how
/// much before and after.
#[derive(Clone, Copy, Debug)]
struct Loads {
    registers: [Option<u8>; 2],
    before: i64,
    after: i64,
}

impl Loads {
    /// Source: Arm Architecture Reference Manual (DDI 0487), C6.2, `LDP` and `LDR (immediate)`.
    fn of(word: u32) -> Option<Self> {
        let signed = |from: u32, count: u32| {
            let shifted = (word >> from & ((1 << count) - 1)) << (32 - count);
            i64::from(shifted.cast_signed() >> (32 - count))
        };
        let register = |from: u32| Some((word >> from & 31) as u8);
        let pair = [register(0), register(10)];
        let by = 8 * signed(15, 7);
        let (registers, before, after) = match word & 0xffc0_03e0 {
            0xa940_03e0 => {
                // An offset moves nothing: it is taken back.
                (pair, by, -by)
            }
            0xa8c0_03e0 => (pair, 0, by),
            0xa9c0_03e0 => (pair, by, 0),
            _ if word & 0xffe0_0fe0 == 0xf840_07e0 => ([register(0), None], 0, signed(12, 9)),
            _ => return None,
        };
        Some(Self {
            registers,
            before,
            after,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(code: &[u32], is_caller: bool) -> Option<WayOut> {
        let bytes: Vec<u8> = code.iter().flat_map(|word| word.to_le_bytes()).collect();
        way_out(0x1000, is_caller, |at, into| {
            let rest = bytes.get((at - 0x1000) as usize..).unwrap_or_default();
            let len = rest.len().min(into.len());
            into[..len].copy_from_slice(&rest[..len]);
            len
        })
    }

    #[test]
    fn a_system_call_wrapper_returns_at_once() {
        // svc #0; ret
        let way = found(&[0xd400_0001, 0xd65f_03c0], false).expect("a way out");
        assert_eq!((way.return_address, way.frame), (ReturnAddress::InLink, 0));
        // As a caller it would return to where the call does.
        assert_eq!(found(&[0xd400_0001, 0xd65f_03c0], true), None);
    }

    #[test]
    fn what_a_linkage_table_leads_to_returns_for_it() {
        // adrp x16, 0x1000; ldr x17, [x16, #8]; add x16, x16, #8; br x17
        let code = [0x9000_0010, 0xf940_0611, 0x9100_2210, 0xd61f_0220];
        let way = found(&code, false).expect("a way out");
        assert_eq!((way.return_address, way.frame), (ReturnAddress::InLink, 0));
        assert_eq!(found(&code, true), None);
        // br x8
        assert_eq!(found(&[0xd61f_0100], false), None);
    }

    #[test]
    fn a_frame_is_undone() {
        // ldp x20, x19, [sp, #16]; ldp x29, x30, [sp], #32; add sp, sp, #0x40; ret
        let code = [0xa941_4ff4, 0xa8c2_7bfd, 0x9101_03ff, 0xd65f_03c0];
        let way = found(&code, true).expect("a way out");
        assert_eq!(
            way,
            WayOut {
                return_address: ReturnAddress::At(8),
                frame_pointer: Some(0),
                frame: 0x60,
            }
        );
    }
}
