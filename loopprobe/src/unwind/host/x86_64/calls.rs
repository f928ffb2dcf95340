//! Whether an address is one that a call returns to.

use iced_x86::{Decoder, DecoderOptions};

/// The longest call: a prefix, an opcode, two bytes of operand form, and a distance.
pub(super) const MAX_CALL: usize = 8;
/// The shortest.
pub(super) const MIN_CALL: usize = 2;

/// Whether `before`, the code in front of an address, can be read as a call that ends there.
pub(in crate::unwind) fn ends_with_call(before: &[u8]) -> bool {
    (MIN_CALL..=MAX_CALL.min(before.len())).any(|len| {
        let mut decoder = Decoder::new(64, &before[before.len() - len..], DecoderOptions::NONE);
        let instruction = decoder.decode();
        instruction.len() == len
            && (instruction.is_call_near() || instruction.is_call_near_indirect())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_every_form_are_known() {
        let calls: [&[u8]; 7] = [
            &[0xe8, 1, 2, 3, 4],
            &[0xff, 0xd0],
            &[0x41, 0xff, 0xd3],
            &[0xff, 0x50, 0x18],
            &[0xff, 0x15, 1, 2, 3, 4],
            &[0x41, 0xff, 0x95, 0x10, 0x20, 0, 0],
            &[0xff, 0x94, 0x24, 0x80, 0, 0, 0],
        ];
        for call in calls {
            assert!(ends_with_call(&[&[0x90, 0x90], call].concat()), "{call:x?}");
        }
    }

    #[test]
    fn other_instructions_are_not() {
        // push %rbp; mov %rsp,%rbp; jmp; a call's first bytes; system call
        let others: [&[u8]; 4] = [
            &[0x55, 0x48, 0x89, 0xe5],
            &[0xe9, 1, 2, 3, 4],
            &[0xe8, 1, 2, 3],
            &[0x0f, 0x05],
        ];
        for code in others {
            assert!(!ends_with_call(code), "{code:x?}");
        }
        assert!(!ends_with_call(&[]));
    }
}
