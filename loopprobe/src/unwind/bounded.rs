//! Call frame information that can be evaluated in bounded time.
//!
//! Its expressions are programs with jumps, so a crafted one can run forever or fill the memory,
//! and framehop 0.16 sets no limit. Compilers emit none with jumps; without jumps an expression
//! runs at most as long as it has bytes.

use gimli::{
    BaseAddresses, CallFrameInstruction, CallFrameInstructionIter, CieOrFde, EhFrame, EhFrameHdr,
    Encoding, FrameDescriptionEntry, LittleEndian, Operation, Reader, UnwindExpression,
    UnwindSection,
};

use super::section::Section;
use crate::elf::VirtAddr;

/// The most instructions of one entry. Compilers write some hundred for the largest functions.
const MAX_INSTRUCTIONS: usize = 1 << 16;
/// The most instructions of a section that is looked through as a whole: some ten for each of a
/// million functions.
const MAX_TOTAL: usize = 1 << 24;

/// Whether framehop may evaluate what the search table gives for an address. True where it gives
/// nothing.
pub(super) fn at(header: &Section, frames: &Section, address: VirtAddr) -> bool {
    let bases = bases(header.address, frames.address);
    let Ok(parsed) = EhFrameHdr::new(&header.bytes, LittleEndian).parse(&bases, 8) else {
        return true;
    };
    let section = eh_frame(frames);
    let entry = parsed.table().and_then(|table| {
        let pointer = table.lookup(address.0, &bases).ok()?;
        let offset = table.pointer_to_offset(pointer).ok()?;
        section
            .fde_from_offset(&bases, offset, EhFrame::cie_from_offset)
            .ok()
    });
    entry.is_none_or(|entry| {
        let mut budget = MAX_INSTRUCTIONS;
        entry_is_bounded(&section, &bases, &entry, &mut budget)
    })
}

/// Whether framehop may evaluate any entry of an `.eh_frame` that has no search table.
pub(super) fn eh_frame_is_bounded(frames: &Section) -> bool {
    all(&eh_frame(frames), &bases(0, frames.address))
}

/// The same for a `.debug_frame`.
pub(super) fn debug_frame_is_bounded(bytes: &[u8]) -> bool {
    let mut section = gimli::DebugFrame::new(bytes, LittleEndian);
    section.set_address_size(8);
    all(&section, &bases(0, 0))
}

fn eh_frame(frames: &Section) -> EhFrame<gimli::EndianSlice<'_, LittleEndian>> {
    let mut section = EhFrame::new(&frames.bytes, LittleEndian);
    section.set_address_size(8);
    section
}

/// As framehop has them for these sections.
fn bases(eh_frame_hdr: u64, eh_frame: u64) -> BaseAddresses {
    BaseAddresses::default()
        .set_eh_frame_hdr(eh_frame_hdr)
        .set_eh_frame(eh_frame)
        .set_text(0)
        .set_got(0)
}

fn all<R: Reader, S: UnwindSection<R>>(section: &S, bases: &BaseAddresses) -> bool {
    let mut budget = MAX_TOTAL;
    let mut entries = section.entries(bases);
    loop {
        match entries.next() {
            Ok(Some(CieOrFde::Cie(_))) => {}
            Ok(Some(CieOrFde::Fde(partial))) => {
                // framehop makes no index of a section with an entry that cannot be read.
                let Ok(entry) = partial.parse(S::cie_from_offset) else {
                    return true;
                };
                if !entry_is_bounded(section, bases, &entry, &mut budget) {
                    return false;
                }
            }
            Ok(None) | Err(_) => return true,
        }
    }
}

fn entry_is_bounded<R: Reader, S: UnwindSection<R>>(
    section: &S,
    bases: &BaseAddresses,
    entry: &FrameDescriptionEntry<R>,
    budget: &mut usize,
) -> bool {
    let encoding = entry.cie().encoding();
    let common = entry.cie().instructions(section, bases);
    let own = entry.instructions(section, bases);
    instructions_are_bounded(section, common, encoding, budget)
        && instructions_are_bounded(section, own, encoding, budget)
}

fn instructions_are_bounded<R: Reader, S: UnwindSection<R>>(
    section: &S,
    mut instructions: CallFrameInstructionIter<'_, R>,
    encoding: Encoding,
    budget: &mut usize,
) -> bool {
    loop {
        // framehop stops at an instruction that cannot be read, and evaluates nothing then.
        let Ok(Some(instruction)) = instructions.next() else {
            return true;
        };
        if *budget == 0 {
            return false;
        }
        *budget -= 1;
        let (CallFrameInstruction::DefCfaExpression { expression }
        | CallFrameInstruction::Expression { expression, .. }
        | CallFrameInstruction::ValExpression { expression, .. }) = instruction
        else {
            continue;
        };
        if !has_no_jump(section, &expression, encoding) {
            return false;
        }
    }
}

fn has_no_jump<R: Reader, S: UnwindSection<R>>(
    section: &S,
    expression: &UnwindExpression<R::Offset>,
    encoding: Encoding,
) -> bool {
    let Ok(expression) = expression.get(section) else {
        return true;
    };
    let mut operations = expression.operations(encoding);
    loop {
        match operations.next() {
            Ok(Some(Operation::Bra { .. } | Operation::Skip { .. })) => return false,
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unwind::image::Image;

    const FRAMES: u64 = 0x2000;
    const HEADER: u64 = 0x3000;
    const CODE: u64 = 0x1000;

    /// A common entry and one for 16 bytes at `CODE` with these instructions.
    fn frames(instructions: &[u8]) -> Section {
        let mut bytes = vec![
            20, 0, 0, 0, 0, 0, 0, 0, 1, b'z', b'R', 0, 1, 0x78, 16, 1, 0x1b,
        ];
        bytes.extend([0x0c, 7, 8, 0x90, 1, 0, 0]);
        let start = bytes.len();
        let mut entry = ((start + 4) as u32).to_le_bytes().to_vec();
        let begin = CODE.wrapping_sub(FRAMES + start as u64 + 8) as u32;
        entry.extend(begin.to_le_bytes());
        entry.extend(16_u32.to_le_bytes());
        entry.push(0);
        entry.extend(instructions);
        bytes.extend((entry.len() as u32).to_le_bytes());
        bytes.extend(entry);
        bytes.extend([0; 4]);
        section(FRAMES, &bytes)
    }

    fn section(address: u64, bytes: &[u8]) -> Section {
        Section {
            address,
            bytes: bytes.into(),
        }
    }

    /// The search table for `frames`.
    fn header() -> Section {
        let mut bytes = vec![1, 0x1b, 3, 0x3b];
        bytes.extend((FRAMES.wrapping_sub(HEADER + 4) as u32).to_le_bytes());
        bytes.extend(1_u32.to_le_bytes());
        bytes.extend((CODE.wrapping_sub(HEADER) as u32).to_le_bytes());
        bytes.extend((FRAMES.wrapping_add(24).wrapping_sub(HEADER) as u32).to_le_bytes());
        section(HEADER, &bytes)
    }

    fn is_bounded(instructions: &[u8]) -> bool {
        let frames = frames(instructions);
        let all = eh_frame_is_bounded(&frames);
        assert_eq!(at(&header(), &frames, VirtAddr(CODE + 4)), all);
        all
    }

    #[test]
    fn expressions_with_jumps_are_refused() {
        // DW_CFA_def_cfa_expression of DW_OP_skip -3: forever.
        assert!(!is_bounded(&[0x0f, 3, 0x2f, 0xfd, 0xff]));
        // DW_OP_lit0, DW_OP_skip -4: until the memory is full.
        assert!(!is_bounded(&[0x0f, 4, 0x30, 0x2f, 0xfc, 0xff]));
        // DW_CFA_val_expression of the return address, DW_OP_lit1, DW_OP_bra -4.
        assert!(!is_bounded(&[0x16, 16, 4, 0x31, 0x28, 0xfc, 0xff]));
    }

    #[test]
    fn what_compilers_and_linkers_write_is_not() {
        assert!(is_bounded(&[0x0e, 16, 0x86, 2]));
        // The expression that linkers give the procedure linkage table.
        let plt = [
            0x0f, 11, 0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22,
        ];
        assert!(is_bounded(&plt));
        let own = std::fs::read("/proc/self/exe").expect("the test's own executable is readable");
        let image = Image::read(own.as_slice()).expect("an ELF file");
        assert!(eh_frame_is_bounded(
            image
                .frames()
                .eh_frame
                .as_ref()
                .expect("unwind information")
        ));
    }
}
