//! The panics that mark async state machines: "`async fn` resumed after completion" and others.

use std::{collections::HashSet, ops::Range};

use memchr::memmem;

use super::{
    Registers,
    by_architecture::{first_and_third_argument, references},
    registers::Gpr,
};
use crate::elf::{Image, VirtAddr};

/// What a state machine panics with when it is polled after its end: "completion", "panicking" or
/// "async drop" follows. Source: `compiler/rustc_middle/src/mir/terminator.rs`, `AssertKind` (Rust
/// 1.39 to 1.97).
const RESUMED: &[u8] = b"`async fn` resumed after ";
/// Since about Rust 1.80 a function of `core` takes the location, loads the message and goes on to
/// panic. Code of older compilers loads the message itself, in functions that are larger than this.
const MAX_PANIC_FUNCTION: u64 = 112;

/// The panics of finished async state machines in one image.
#[derive(Debug)]
pub(super) struct ResumedPanics {
    messages: HashSet<VirtAddr>,
    functions: HashSet<VirtAddr>,
    /// Whether no known function uses a message: then no walk will come to a panic.
    unused: bool,
    /// Where the first and the third argument of a function are.
    arguments: [Gpr; 2],
}

impl ResumedPanics {
    /// Finds the messages, and the panic functions that load them.
    pub(super) fn find(image: &Image) -> Self {
        let messages = messages(image);
        let holders: Vec<_> = references(image, &messages)
            .into_iter()
            .filter_map(|(at, _)| image.function_at(at))
            .collect();
        let is_small =
            |function: &&Range<VirtAddr>| function.end.0 - function.start.0 <= MAX_PANIC_FUNCTION;
        let small = holders.iter().filter(is_small);
        Self {
            functions: small.map(|function| function.start).collect(),
            unused: holders.is_empty(),
            messages,
            arguments: first_and_third_argument(image),
        }
    }

    /// Whether there are none: the image has no async function, or no unwind information that tells
    /// its functions.
    pub(super) fn is_empty(&self) -> bool {
        self.unused
    }

    /// If calling `target` with these registers is such a panic: the address of its location.
    ///
    /// `panic_const_async_fn_resumed*(&Location)`, or in older compilers `panic(message, length,
    /// &Location)`.
    pub(super) fn location(&self, target: VirtAddr, registers: &Registers) -> Option<VirtAddr> {
        let [first, third] = self.arguments;
        let first = registers.get(first)?;
        if self.functions.contains(&target) {
            return Some(first);
        }
        self.messages
            .contains(&first)
            .then(|| registers.get(third))?
    }
}

/// Where the messages are, and the words that point to them (lists of string pieces).
fn messages(image: &Image) -> HashSet<VirtAddr> {
    let finder = memmem::Finder::new(RESUMED);
    let mut found = HashSet::new();
    for range in image.data_ranges().chain(image.executable_ranges()) {
        let mut pieces = image.pieces(range, 0, RESUMED.len() - 1);
        while let Some(piece) = pieces.next() {
            found.extend(finder.find_iter(piece.bytes).map(|at| piece.address(at)));
        }
    }
    if !found.is_empty() {
        let pieces: Vec<_> = image
            .pointers()
            .filter(|(_, to)| found.contains(to))
            .map(|(slot, _)| slot)
            .collect();
        found.extend(pieces);
    }
    found
}
