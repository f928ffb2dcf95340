//! Which words the loader fills in: with pointers, thread-local modules, imported symbols.

use std::{borrow::Cow, ops::Range};

use object::elf;

use super::{
    Architecture, Image, VirtAddr,
    header::{u32_at, u64_at},
};

const RELA_SIZE: usize = 24;
const SYMBOL_SIZE: u64 = 24;
/// Programs of 100 MB have about a million. The limit keeps a hostile RELR bitmap from growing
/// 126-fold in memory.
const MAX_POINTERS: usize = 1 << 24;

/// The words that the loader turns into pointers, sorted by where they are.
#[derive(Debug, Default)]
pub(super) struct Pointers {
    slots: Vec<(VirtAddr, VirtAddr)>,
    /// The words that take the number of a module with thread-local variables, sorted.
    modules: Vec<VirtAddr>,
    /// The words that take the address of another file's symbol, and where its name stands, sorted.
    imports: Vec<(VirtAddr, VirtAddr)>,
}

impl Pointers {
    pub(super) fn get(&self, slot: VirtAddr) -> Option<VirtAddr> {
        let index = self
            .slots
            .binary_search_by_key(&slot, |(slot, _)| *slot)
            .ok()?;
        Some(self.slots[index].1)
    }

    /// Whether the word at `slot` takes the number of a module with thread-local variables: the
    /// start of what `__tls_get_addr` wants.
    pub(super) fn is_module(&self, slot: VirtAddr) -> bool {
        self.modules.binary_search(&slot).is_ok()
    }

    /// Where the name stands of another file's symbol whose address the word at `slot` takes.
    pub(super) fn import(&self, slot: VirtAddr) -> Option<VirtAddr> {
        let imports = &self.imports;
        let index = imports
            .binary_search_by_key(&slot, |(slot, _)| *slot)
            .ok()?;
        Some(imports[index].1)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (VirtAddr, VirtAddr)> {
        self.slots.iter().copied()
    }
}

impl Image {
    /// All words that are pointers into the image, as (where, to where), in ascending order:
    /// relative and local symbolic relocations, and in a fixed-address image each aligned data word
    /// that is an address of the image.
    pub fn pointers(&self) -> impl Iterator<Item = (VirtAddr, VirtAddr)> {
        let is_fixed = self.has_fixed_address();
        let relocated = self.known.pointers.iter().filter(move |_| !is_fixed);
        let data = is_fixed.then(|| self.data_ranges()).into_iter().flatten();
        relocated.chain(data.flat_map(|range| self.words(range)))
    }

    /// The pointers among the aligned words of a range.
    fn words(&self, range: Range<VirtAddr>) -> impl Iterator<Item = (VirtAddr, VirtAddr)> {
        let first = VirtAddr(range.start.0.next_multiple_of(8));
        let mut pieces = self.pieces(first..range.end, 0, 0);
        let next = move || {
            let piece = pieces.next()?;
            let words = piece.bytes.chunks_exact(8).enumerate();
            let found = words.filter_map(|(index, word)| {
                let (at, target) = (piece.address(8 * index), VirtAddr(u64_at(word, 0)?));
                let relocated = self.known.pointers.get(at);
                let target = relocated.or_else(|| self.is_mapped(target).then_some(target));
                Some((at, target?))
            });
            Some(found.collect::<Vec<_>>())
        };
        std::iter::from_fn(next).flatten()
    }
}

/// The entries of `PT_DYNAMIC` that relocations need.
#[derive(Debug, Default)]
struct Dynamic {
    rela: (u64, u64),
    plt: (u64, u64),
    relr: (u64, u64),
    symbols: u64,
    names: u64,
}

/// Reads `DT_RELA`, `DT_JMPREL` and `DT_RELR`, found through `PT_DYNAMIC`.
pub(super) fn read(image: &Image) -> Pointers {
    let dynamic = read_dynamic(image);
    // A pointer takes a word, so there cannot be more of them than words.
    let limit =
        usize::try_from(image.loaded() / 8).map_or(MAX_POINTERS, |words| words.min(MAX_POINTERS));
    let mut found = Pointers::default();
    read_rela(image, dynamic.rela, &dynamic, limit, &mut found);
    read_rela(image, dynamic.plt, &dynamic, limit, &mut found);
    read_relr(image, dynamic.relr, limit, &mut found.slots);
    found.slots.sort_unstable();
    found.slots.dedup_by_key(|(slot, _)| *slot);
    found.modules.sort_unstable();
    found.imports.sort_unstable();
    found.slots.shrink_to_fit();
    found
}

fn read_dynamic(image: &Image) -> Dynamic {
    let mut dynamic = Dynamic::default();
    let Some(header) = image.header(elf::PT_DYNAMIC) else {
        return dynamic;
    };
    let size = usize::try_from(header.file_size).unwrap_or(usize::MAX);
    for entry in image.bytes_up_to(header.address, size).chunks_exact(16) {
        let (tag, value) = (
            u64_at(entry, 0).unwrap_or(0) as i64,
            u64_at(entry, 8).unwrap_or(0),
        );
        match tag {
            tag if tag == elf::DT_NULL.0 => break,
            tag if tag == elf::DT_RELA.0 => dynamic.rela.0 = value,
            tag if tag == elf::DT_RELASZ.0 => dynamic.rela.1 = value,
            tag if tag == elf::DT_JMPREL.0 => dynamic.plt.0 = value,
            tag if tag == elf::DT_PLTRELSZ.0 => dynamic.plt.1 = value,
            tag if tag == elf::DT_RELR.0 => dynamic.relr.0 = value,
            tag if tag == elf::DT_RELRSZ.0 => dynamic.relr.1 = value,
            tag if tag == elf::DT_SYMTAB.0 => dynamic.symbols = value,
            tag if tag == elf::DT_STRTAB.0 => dynamic.names = value,
            _ => {}
        }
    }
    dynamic
}

fn table(image: &Image, (address, size): (u64, u64)) -> Cow<'_, [u8]> {
    image.copied(
        VirtAddr(address),
        usize::try_from(size).unwrap_or(usize::MAX),
    )
}

fn read_rela(
    image: &Image,
    place: (u64, u64),
    dynamic: &Dynamic,
    limit: usize,
    found: &mut Pointers,
) {
    for entry in table(image, place).chunks_exact(RELA_SIZE) {
        if found.slots.len() + found.modules.len() + found.imports.len() >= limit {
            return;
        }
        let (Some(slot), Some(info), Some(addend)) =
            (u64_at(entry, 0), u64_at(entry, 8), u64_at(entry, 16))
        else {
            return;
        };
        let base = match Fills::of(image.architecture(), elf::RelocationType(info as u32)) {
            Fills::OwnAddress => Some(0),
            Fills::Symbol => {
                let symbol = Symbol::at(image, dynamic, info >> 32);
                let import = symbol.as_ref().and_then(Symbol::import);
                found
                    .imports
                    .extend(import.map(|name| (VirtAddr(slot), name)));
                symbol.and_then(|symbol| symbol.value)
            }
            Fills::Module => {
                found.modules.push(VirtAddr(slot));
                None
            }
            Fills::Other => None,
        };
        if let Some(base) = base {
            let target = VirtAddr(base.wrapping_add(addend));
            found.slots.push((VirtAddr(slot), target));
        }
    }
}

/// What a relocation fills a word with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fills {
    /// An address of the image, which is in the addend.
    OwnAddress,
    /// The address of a symbol, and the addend.
    Symbol,
    /// The number of a module with thread-local variables.
    Module,
    /// Something else: an offset in such a module, a descriptor of a thread-local variable.
    Other,
}

impl Fills {
    /// Source: System V ABI for x86-64, table 4.10; "ELF for the Arm 64-bit Architecture", section
    /// 5.7.16 (2024Q3).
    fn of(architecture: Architecture, kind: elf::RelocationType) -> Self {
        match architecture {
            Architecture::X86_64 => match kind {
                elf::R_X86_64_RELATIVE => Self::OwnAddress,
                elf::R_X86_64_64 | elf::R_X86_64_GLOB_DAT | elf::R_X86_64_JUMP_SLOT => Self::Symbol,
                elf::R_X86_64_DTPMOD64 => Self::Module,
                _ => Self::Other,
            },
            Architecture::Aarch64 => match kind {
                elf::R_AARCH64_RELATIVE => Self::OwnAddress,
                elf::R_AARCH64_ABS64 | elf::R_AARCH64_GLOB_DAT | elf::R_AARCH64_JUMP_SLOT => {
                    Self::Symbol
                }
                elf::R_AARCH64_TLS_DTPMOD => Self::Module,
                _ => Self::Other,
            },
        }
    }
}

/// A dynamic symbol.
struct Symbol {
    /// Where it lies, if this image defines it itself.
    value: Option<u64>,
    /// Where its name stands.
    name: VirtAddr,
}

impl Symbol {
    fn at(image: &Image, dynamic: &Dynamic, index: u64) -> Option<Self> {
        let address = dynamic
            .symbols
            .checked_add(index.checked_mul(SYMBOL_SIZE)?)?;
        let symbol = image.bytes_at(VirtAddr(address), SYMBOL_SIZE as usize)?;
        let section = u32_at(symbol, 4)? >> 16;
        let name = dynamic.names.checked_add(u32_at(symbol, 0)?.into())?;
        Some(Self {
            value: (section != 0).then(|| u64_at(symbol, 8)).flatten(),
            name: VirtAddr(name),
        })
    }

    /// Where its name stands, if another file defines it.
    fn import(&self) -> Option<VirtAddr> {
        self.value.is_none().then_some(self.name)
    }
}

/// The bitmap encoding of relative relocations: an even word is an address, an odd one covers the
/// 63 words after it.
fn read_relr(
    image: &Image,
    place: (u64, u64),
    limit: usize,
    slots: &mut Vec<(VirtAddr, VirtAddr)>,
) {
    let mut push = |slot: u64| {
        let room = slots.len() < limit;
        if let Some(target) = image.u64_at(VirtAddr(slot)).filter(|_| room) {
            slots.push((VirtAddr(slot), VirtAddr(target)));
        }
        room
    };
    let mut base = 0u64;
    for entry in table(image, place).chunks_exact(8) {
        let word = u64_at(entry, 0).unwrap_or(0);
        if word & 1 == 0 {
            if !push(word) {
                return;
            }
            base = word.wrapping_add(8);
            continue;
        }
        for bit in (0..63).filter(|bit| word >> (bit + 1) & 1 == 1) {
            if !push(base.wrapping_add(8 * bit)) {
                return;
            }
        }
        base = base.wrapping_add(63 * 8);
    }
}
