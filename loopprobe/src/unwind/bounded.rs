//! Call frame information that can be evaluated in bounded time.
//!
//! Its expressions are programs with jumps, so a crafted one can run forever or fill the memory, and framehop 0.16 sets
//! no limit. Compilers emit none with jumps; without jumps an expression runs at most as long as it has bytes.

use gimli::{
    BaseAddresses, CallFrameInstruction, CallFrameInstructionIter, CieOrFde, EhFrame, EhFrameHdr,
    Encoding, FrameDescriptionEntry, LittleEndian, Operation, Reader, UnwindExpression,
    UnwindSection,
};

use super::image::Section;
use crate::elf::VirtAddr;

/// The most instructions of one entry. Compilers write some hundred for the largest functions.
const MAX_INSTRUCTIONS: usize = 1 << 16;
/// The most instructions of a section that is looked through as a whole: some ten for each of a million functions.
const MAX_TOTAL: usize = 1 << 24;

/// Whether framehop may evaluate what the search table gives for an address. True where it gives nothing.
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
        let expression = match instruction {
            CallFrameInstruction::DefCfaExpression { expression }
            | CallFrameInstruction::Expression { expression, .. }
            | CallFrameInstruction::ValExpression { expression, .. } => expression,
            _ => continue,
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
