//! Functions of Tokio's that are found by their symbols.

use std::collections::BTreeSet;

use super::{
    names::{demangle, is_poll},
    vtable::{RawVtable, VtableLayout},
};
use crate::{
    elf::{Image, SymbolTable, VirtAddr},
    runtime::LoopMarks,
};

/// Matching symbols looked at; a program has a few thousand of Tokio's functions at most.
const MAX_CANDIDATES: usize = 1 << 16;

/// The functions whose mangled name contains `part` and whose demangled name passes `test`.
fn functions(symbols: &SymbolTable, part: &str, test: impl Fn(&str) -> bool) -> BTreeSet<VirtAddr> {
    let candidates = symbols
        .iter()
        .filter(|symbol| symbol.name.contains(part))
        .take(MAX_CANDIDATES);
    let named = candidates.filter_map(|symbol| Some((symbol.address, demangle(symbol.name)?)));
    named
        .filter(|(_, name)| test(name))
        .map(|(address, _)| address)
        .collect()
}

/// The functions that mark a turn of a loop. Source: `tokio/src/runtime/park.rs` (1.21 and later;
/// `tokio/src/park/thread.rs` before).
pub(super) fn loop_marks(image: &Image, symbols: &SymbolTable) -> LoopMarks {
    let is_park = |name: &str| {
        matches!(
            plain(name).as_str(),
            "tokio::runtime::park::Inner::park"
                | "tokio::runtime::park::Inner::park_timeout"
                | "tokio::park::thread::Inner::park"
                | "tokio::park::thread::Inner::park_timeout"
        )
    };
    let is_block_on = |name: &str| {
        let name = plain(name);
        name == "tokio::runtime::park::CachedParkThread::block_on"
            || name == "tokio::park::thread::CachedParkThread::block_on"
    };
    let offsets = |found: BTreeSet<VirtAddr>| {
        found
            .into_iter()
            .filter_map(|a| image.file_offset(a))
            .collect()
    };
    LoopMarks {
        park: offsets(functions(symbols, "4park", is_park)),
        block_on: offsets(functions(symbols, "8block_on", is_block_on)),
        ..LoopMarks::default()
    }
}

/// A method's path without the brackets and arguments that v0 writes: `<a::B>::c::<D>` is
/// `a::B::c`.
fn plain(name: &str) -> String {
    let name = super::names::without_arguments(name);
    match name
        .strip_prefix('<')
        .and_then(|rest| rest.split_once(">::"))
    {
        Some((own, method)) => format!("{own}::{method}"),
        None => name.to_owned(),
    }
}

/// The vtables of Tokio before 1.21, which have nothing but functions: the words that point to a
/// `raw::poll` symbol.
pub(super) fn vtables_by_symbols(image: &Image, symbols: &SymbolTable) -> Vec<RawVtable> {
    let polls = functions(symbols, "3raw4poll", is_poll);
    if polls.is_empty() {
        return Vec::new();
    }
    let slots = image.pointers().filter(|(_, to)| polls.contains(to));
    slots
        .filter_map(|(slot, poll)| functions_only(image, slot, poll))
        .collect()
}

/// Source: `tokio/src/runtime/task/raw.rs`, 1.0 to 1.20: poll is followed by dealloc.
fn functions_only(image: &Image, address: VirtAddr, poll: VirtAddr) -> Option<RawVtable> {
    let function = |slot: u64| {
        image
            .pointer_at(VirtAddr(address.0.checked_add(8 * slot)?))
            .filter(|to| image.is_code(*to))
    };
    (1..5).all(|slot| function(slot).is_some()).then_some(())?;
    Some(RawVtable {
        address,
        layout: VtableLayout::Functions,
        poll,
        schedule: None,
        dealloc: function(1)?,
        trailer_offset: None,
        scheduler_offset: None,
        id_offset: None,
    })
}
