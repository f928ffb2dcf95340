//! Whether a thread spins: asks again and again for something that another thread has to do,
//! without a system call.

use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction};

use crate::elf::ProcAddr;

/// Larger loops than this many bytes do more than wait.
pub const SPIN_WAIT_BYTES: u64 = 64;
/// So many instructions are followed.
const MOST: usize = 24;

/// Whether the instruction at `at` lies in a small loop with a `pause`, the processor's hint for
/// such loops, that calls nothing. `code` begins [`SPIN_WAIT_BYTES`] before it.
pub(in crate::code) fn is_spin_wait(code: &[u8], at: ProcAddr) -> bool {
    let Some(from) = at.0.checked_sub(SPIN_WAIT_BYTES) else {
        return false;
    };
    let decode = |start: u64| {
        let bytes = code.get((start - from) as usize..).unwrap_or(&[]);
        let mut decoder = Decoder::with_ip(64, bytes, start, DecoderOptions::NONE);
        std::iter::from_fn(move || decoder.can_decode().then(|| decoder.decode())).take(MOST)
    };
    let mut pauses = false;
    for instruction in decode(at.0) {
        pauses |= instruction.code() == Code::Pause;
        if let Some(target) = jump(&instruction)
            && (from..=at.0).contains(&target)
        {
            let before = decode(target).take_while(|one| one.ip() < at.0);
            return pauses || is_paused(before);
        }
        if !goes_on(&instruction) {
            return false;
        }
    }
    false
}

/// Whether there is a `pause` before anything that leaves.
fn is_paused(instructions: impl Iterator<Item = Instruction>) -> bool {
    let mut stays = instructions.take_while(goes_on);
    stays.any(|instruction| instruction.code() == Code::Pause)
}

fn goes_on(instruction: &Instruction) -> bool {
    matches!(
        instruction.flow_control(),
        FlowControl::Next | FlowControl::ConditionalBranch
    )
}

fn jump(instruction: &Instruction) -> Option<u64> {
    let jumps = instruction.is_jcc_short_or_near() || instruction.is_jmp_short_or_near();
    jumps.then(|| instruction.near_branch_target())
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: u64 = 0x1000;

    /// Whether a thread spins at each instruction of a piece of code.
    fn spins(code: &[u8]) -> Vec<bool> {
        let mut decoder = Decoder::with_ip(64, code, AT, DecoderOptions::NONE);
        let starts: Vec<u64> =
            std::iter::from_fn(|| decoder.can_decode().then(|| decoder.decode().ip())).collect();
        let mut padded = vec![0x90; SPIN_WAIT_BYTES as usize];
        padded.extend(code);
        let of = |&start: &u64| {
            let before = (start - AT) as usize;
            is_spin_wait(&padded[before..], ProcAddr(start))
        };
        starts.iter().map(of).collect()
    }

    #[test]
    fn a_small_loop_with_a_pause_spins() {
        // pause; mov al, [rdi]; test al, al; je -8; ret
        let code = [0xf3, 0x90, 0x8a, 0x07, 0x84, 0xc0, 0x74, 0xf8, 0xc3];
        assert_eq!(spins(&code), [true, true, true, true, false]);
    }

    #[test]
    fn a_loop_without_one_computes_and_one_that_calls_does_more() {
        let loops = [0x66, 0x90, 0x8a, 0x07, 0x84, 0xc0, 0x74, 0xf8, 0xc3];
        assert_eq!(spins(&loops), [false; 5]);
        // pause; call rax; jmp -6
        let calls = [0xf3, 0x90, 0xff, 0xd0, 0xeb, 0xfa];
        assert!(!spins(&calls)[0]);
        // A pause behind the loop: dec eax; jne -4; pause; ret
        let behind = [0xff, 0xc8, 0x75, 0xfc, 0xf3, 0x90, 0xc3];
        assert_eq!(spins(&behind)[..2], [false, false]);
    }
}
