//! Where the loader has put a file: what it added to the file's addresses.

use super::{Mapping, Maps, PAGE};
use crate::elf::{FileOffset, Image, VirtAddr};

/// A loadable segment with code, as the file's program headers have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeSegment {
    /// Where it begins.
    pub address: VirtAddr,
    /// Where that is in the file.
    pub offset: FileOffset,
    /// How many bytes the file has of it.
    pub file_size: u64,
}

impl CodeSegment {
    /// All of an image.
    pub fn all_of(image: &Image) -> impl Iterator<Item = Self> {
        image.executable_ranges().filter_map(|range| {
            Some(Self {
                address: range.start,
                offset: image.file_offset(range.start)?,
                file_size: range.end.0 - range.start.0,
            })
        })
    }

    /// Where the page begins in the file that holds its first byte.
    fn first_page(&self) -> u64 {
        self.offset.0 & !(PAGE - 1)
    }
}

impl Mapping {
    /// Address in the process minus address in the file, which has these segments. Wraps around.
    /// `None` if none of them is mapped here.
    ///
    /// A segment lies, rounded down to a page, at the beginning of its mapping; a mapping that was
    /// split begins inside its segment.
    pub fn load_bias(&self, segments: impl IntoIterator<Item = CodeSegment>) -> Option<u64> {
        let mapped = self.file_offset.0;
        let segment = segments.into_iter().find(|segment| {
            let end = segment.offset.0.saturating_add(segment.file_size);
            (segment.first_page()..end).contains(&mapped)
        })?;
        let page = segment.address.0 & !(PAGE - 1);
        let address = page.wrapping_add(mapped - segment.first_page());
        Some(self.start.0.wrapping_sub(address))
    }
}

impl Maps {
    /// The same for the file of this mapping, from the first of its executable mappings that tells.
    pub fn load_bias(&self, of: &Mapping, image: &Image) -> Option<u64> {
        self.executable()
            .filter(|mapping| mapping.file_id() == of.file_id())
            .find_map(|mapping| mapping.load_bias(CodeSegment::all_of(image)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::ProcAddr;

    const SEGMENT: CodeSegment = CodeSegment {
        address: VirtAddr(0x5_1234),
        offset: FileOffset(0x5_0234),
        file_size: 0x8000,
    };

    fn mapping(start: u64, file_offset: u64) -> Mapping {
        Mapping {
            start: ProcAddr(start),
            end: ProcAddr(start + 0x2000),
            file_offset: FileOffset(file_offset),
            executable: true,
            device: (8, 1),
            inode: 1,
            path: "/bin/x".into(),
            deleted: false,
        }
    }

    #[test]
    fn a_mapping_that_was_split_has_the_bias_of_the_whole() {
        let bias = 0x7f00_0000_0000;
        for (start, offset) in [(0x5_1000, 0x5_0000), (0x5_4000, 0x5_3000)] {
            let mapping = mapping(bias + start, offset);
            assert_eq!(mapping.load_bias([SEGMENT]), Some(bias));
        }
    }

    #[test]
    fn what_is_not_mapped_has_none() {
        assert_eq!(mapping(0x1000, 0x4_f000).load_bias([SEGMENT]), None);
        assert_eq!(mapping(0x1000, 0x5_9000).load_bias([SEGMENT]), None);
    }

    #[test]
    fn the_own_code_lies_where_it_runs() {
        let maps = Maps::read(std::process::id()).unwrap();
        let here = ProcAddr(the_own_code_lies_where_it_runs as *const () as u64);
        let mapping = maps.at(here).unwrap();
        let image = Image::open(&mapping.path).unwrap();
        let bias = mapping.load_bias(CodeSegment::all_of(&image)).unwrap();
        let address = VirtAddr(here.0.wrapping_sub(bias));
        assert_eq!(image.file_offset(address), mapping.to_file(here));
    }
}
