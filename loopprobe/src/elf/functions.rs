//! Where functions begin and end, from `.eh_frame`: no symbols or section headers needed.

use std::ops::Range;

use gimli::{
    BaseAddresses, EhFrame, EhFrameHdr, EhFrameOffset, EndianSlice, LittleEndian, UnwindSection,
};
use object::elf;

use super::{Image, VirtAddr};

/// Programs of 100 MB describe about half a million.
const MAX_FUNCTIONS: usize = 1 << 23;

/// Functions that `.eh_frame` describes, found through `.eh_frame_hdr`; no symbols or section
/// headers needed. None overlaps another, so all together are no larger than the code.
#[derive(Debug, Default)]
pub struct FunctionTable {
    ranges: Vec<(VirtAddr, VirtAddr)>,
}

impl FunctionTable {
    /// The function around `address`.
    pub fn at(&self, address: VirtAddr) -> Option<Range<VirtAddr>> {
        let after = self.ranges.partition_point(|(start, _)| *start <= address);
        let (start, end) = *self.ranges[..after].last()?;
        (address < end).then_some(start..end)
    }

    /// All functions, as (start, end), in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = (VirtAddr, VirtAddr)> {
        self.ranges.iter().copied()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// How many bytes of code they cover.
    pub fn covered(&self) -> u64 {
        let mut covered_to = VirtAddr(0);
        self.ranges.iter().fold(0, |sum, (start, end)| {
            let start = (*start).max(covered_to);
            covered_to = covered_to.max(*end);
            sum + end.0.saturating_sub(start.0)
        })
    }

    pub(super) fn read(image: &Image) -> Self {
        Self {
            ranges: disjoint(read_ranges(image).unwrap_or_default()),
        }
    }
}

/// In ascending order, each cut off where the next one begins. Of those that begin together the
/// longest counts.
fn disjoint(mut ranges: Vec<(VirtAddr, VirtAddr)>) -> Vec<(VirtAddr, VirtAddr)> {
    ranges.sort_unstable();
    ranges.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        if same {
            kept.1 = next.1;
        }
        same
    });
    let mut limit = VirtAddr(u64::MAX);
    for (start, end) in ranges.iter_mut().rev() {
        *end = limit.min(*end);
        limit = *start;
    }
    ranges.shrink_to_fit();
    ranges
}

fn read_ranges(image: &Image) -> Option<Vec<(VirtAddr, VirtAddr)>> {
    let header = image.header(elf::PT_GNU_EH_FRAME)?;
    let hdr_bytes = image.copied(header.address, usize::try_from(header.file_size).ok()?);
    let hdr_bases = BaseAddresses::default().set_eh_frame_hdr(header.address.0);
    let hdr = EhFrameHdr::new(&hdr_bytes, LittleEndian)
        .parse(&hdr_bases, 8)
        .ok()?;
    let gimli::Pointer::Direct(frames) = hdr.eh_frame_ptr() else {
        return None;
    };
    let bases = hdr_bases.set_eh_frame(frames);
    let tail = image.copied(VirtAddr(frames), usize::MAX);
    let section = EhFrame::new(&tail, LittleEndian);

    let table = hdr.table()?;
    let (mut entries, mut ranges) = (table.iter(&bases), Vec::new());
    while let Ok(Some((_, fde))) = entries.next() {
        if let Some(range) =
            function_range(&section, &bases, frames, fde).filter(|(start, _)| image.is_code(*start))
        {
            ranges.push(range);
        }
        if ranges.len() == MAX_FUNCTIONS {
            break;
        }
    }
    Some(ranges)
}

type Slice<'a> = EndianSlice<'a, LittleEndian>;

fn function_range(
    section: &EhFrame<Slice<'_>>,
    bases: &BaseAddresses,
    frames: u64,
    fde: gimli::Pointer,
) -> Option<(VirtAddr, VirtAddr)> {
    let gimli::Pointer::Direct(address) = fde else {
        return None;
    };
    let offset = EhFrameOffset(usize::try_from(address.checked_sub(frames)?).ok()?);
    let fde = section
        .fde_from_offset(bases, offset, EhFrame::cie_from_offset)
        .ok()?;
    let start = fde.initial_address();
    let end = start.checked_add(fde.len()).filter(|end| *end > start)?;
    Some((VirtAddr(start), VirtAddr(end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_functions_are_cut_off() {
        let range = |start, end| (VirtAddr(start), VirtAddr(end));
        let table = FunctionTable {
            ranges: disjoint(vec![
                range(8, 12),
                range(0, 100),
                range(4, 6),
                range(4, 100),
                range(4, 6),
            ]),
        };
        let found: Vec<_> = table.iter().collect();
        assert_eq!(found, [range(0, 4), range(4, 8), range(8, 12)]);
        assert_eq!(table.at(VirtAddr(5)), Some(VirtAddr(4)..VirtAddr(8)));
        assert_eq!(table.at(VirtAddr(12)), None);
    }
}
