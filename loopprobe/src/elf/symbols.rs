//! Function names by address, from `.symtab`, or from `.dynsym` in a stripped file.

use object::elf;

use super::{
    ElfError, Sections, VirtAddr,
    header::{u16_at, u32_at, u64_at},
    sections::string_at,
};

const SYMBOL_SIZE: usize = 24;

/// A function's symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbol<'a> {
    /// The function's first byte.
    pub address: VirtAddr,
    /// Its size in bytes; 0 if unknown.
    pub size: u64,
    /// Its name, mangled.
    pub name: &'a str,
}

#[derive(Debug)]
struct Entry {
    address: VirtAddr,
    size: u64,
    name: u32,
}

/// The functions of a symbol table, by address. Several symbols can share an address.
#[derive(Debug, Default)]
pub struct SymbolTable {
    entries: Vec<Entry>,
    strings: Vec<u8>,
}

impl SymbolTable {
    /// Reads `.symtab`; empty if the file has none.
    ///
    /// # Errors
    /// When the table lies outside of the file or is too large.
    pub fn read(sections: &Sections) -> Result<Self, ElfError> {
        Self::of(sections, ".symtab")
    }

    /// Reads `.dynsym`: what the file exports, which a stripped file keeps. Empty if it has none.
    ///
    /// # Errors
    /// When the table lies outside of the file or is too large.
    pub fn exported(sections: &Sections) -> Result<Self, ElfError> {
        Self::of(sections, ".dynsym")
    }

    fn of(sections: &Sections, name: &str) -> Result<Self, ElfError> {
        let Some(section) = sections.find(name) else {
            return Ok(Self::default());
        };
        let Some(strings) = sections.linked(section) else {
            return Ok(Self::default());
        };
        let symbols = sections.section_data(section)?;
        let strings = sections.section_data(strings)?;
        let mut entries: Vec<_> = symbols
            .chunks_exact(SYMBOL_SIZE)
            .filter_map(parse)
            .collect();
        entries.sort_by_key(|entry| entry.address);
        Ok(Self { entries, strings })
    }

    /// Whether there are none: the file is stripped.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All functions, by address.
    pub fn iter(&self) -> impl Iterator<Item = Symbol<'_>> {
        self.entries.iter().filter_map(|entry| self.symbol(entry))
    }

    /// The symbols whose function begins at `address`.
    pub fn at(&self, address: VirtAddr) -> impl Iterator<Item = Symbol<'_>> {
        let first = self
            .entries
            .partition_point(|entry| entry.address < address);
        self.entries[first..]
            .iter()
            .take_while(move |entry| entry.address == address)
            .filter_map(|entry| self.symbol(entry))
    }

    fn symbol(&self, entry: &Entry) -> Option<Symbol<'_>> {
        let name = string_at(&self.strings, entry.name as usize)?;
        Some(Symbol {
            address: entry.address,
            size: entry.size,
            name,
        })
    }
}

fn parse(bytes: &[u8]) -> Option<Entry> {
    let kind = bytes.get(4)? & 0xf;
    let is_defined = u16_at(bytes, 6)? != elf::SHN_UNDEF.0;
    (kind == elf::STT_FUNC.0 && is_defined).then_some(())?;
    Some(Entry {
        address: VirtAddr(u64_at(bytes, 8)?),
        size: u64_at(bytes, 16)?,
        name: u32_at(bytes, 0)?,
    })
}
