//! Reads the GNU note that names one build, as lower-case hexadecimal.

use object::{Endianness, elf, read::elf::NoteIterator};

use super::Image;

/// GNU build ids are 20 bytes (SHA-1) or fewer; other producers use up to 32.
const MAX_BUILD_ID: usize = 64;
/// All notes of a program together take a few hundred bytes.
const MAX_NOTES: usize = 1 << 16;

/// The GNU build id from the image's notes, in lower-case hexadecimal.
pub(super) fn build_id(image: &Image) -> Option<String> {
    image.headers(elf::PT_NOTE).find_map(|header| {
        let bytes = image.bytes_at(
            header.address,
            usize::try_from(header.file_size).ok()?.min(MAX_NOTES),
        )?;
        build_id_in(bytes, header.align)
    })
}

/// The GNU build id in the bytes of a note segment or section.
pub(super) fn build_id_in(notes: &[u8], align: u64) -> Option<String> {
    let mut notes =
        NoteIterator::<elf::FileHeader64<Endianness>>::new(Endianness::Little, align, notes)
            .ok()?;
    while let Ok(Some(note)) = notes.next() {
        let is_build_id =
            note.name() == b"GNU" && note.n_type(Endianness::Little) == elf::NT_GNU_BUILD_ID;
        if is_build_id && (1..=MAX_BUILD_ID).contains(&note.desc().len()) {
            return Some(
                note.desc()
                    .iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect(),
            );
        }
    }
    None
}
