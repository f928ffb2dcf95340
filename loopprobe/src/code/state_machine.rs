//! Where async functions are defined and keep their state byte, told by panics they embed.

use std::{cell::OnceCell, collections::HashMap, ops::Range};

use super::{
    Blocks, Completion, ResumedPanics, Walk, Walked,
    by_architecture::{machine, state_byte},
    is_workspace, panic_location,
    x86_64::awaits::Machine,
};
use crate::{
    elf::{Image, VirtAddr},
    model::SourceLocation,
};

/// How many blocks are looked at in one image, over all walks: a thousand task types need up to
/// three million.
const MAX_VISITED: usize = 1 << 23;
/// How many wrappers are looked into, one in the other.
const MAX_WRAPPERS: usize = 4;
/// How many functions' loops are looked at, of an image.
const MAX_MACHINES: usize = 512;

/// Where an async function or block is defined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// The opening brace of its body, as the compiler recorded it.
    pub location: SourceLocation,
    /// Whether it is the outermost one for certain. With `panic = "abort"` a function that never
    /// returns embeds no panic, and one that it awaits may be found in its place; and a future that
    /// polls two of them is neither: then this is false.
    pub certain: bool,
}

/// An async function or block of the program's own workspace, in those of its dependencies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrapped {
    /// Where it is defined; certain if the others lead to it alone.
    pub definition: Definition,
    /// Where those around it are, outermost first.
    pub wrappers: Vec<SourceLocation>,
}

/// The async functions and blocks of one image, known without symbols: the compiler turns each into
/// a state machine whose poll function ends in a panic, with the definition's location, when it is
/// polled after its end.
///
/// All methods want the image that this was made for.
#[derive(Debug, Default)]
pub struct StateMachines {
    /// Found when they are first asked for.
    panics: OnceCell<ResumedPanics>,
    blocks: Blocks,
    outermost: HashMap<VirtAddr, Option<Definition>>,
    within: HashMap<VirtAddr, Option<Definition>>,
    wrapped: HashMap<VirtAddr, Option<Wrapped>>,
    states: HashMap<VirtAddr, Option<u32>>,
    /// Functions whose loops were asked for.
    machines: HashMap<VirtAddr, Option<Machine>>,
    visited: usize,
}

impl StateMachines {
    /// The outermost async function or block that the function at `poll` polls, itself or through
    /// what it calls. The first time it passes once over the image: about 0.1 s for 40 MB.
    pub fn outermost(&mut self, image: &Image, poll: VirtAddr) -> Option<Definition> {
        if let Some(known) = self.outermost.get(&poll) {
            return known.clone();
        }
        let definition = self.look(image, poll, None);
        self.outermost.insert(poll, definition.clone());
        definition
    }

    /// The async function or block of the program's own workspace that lies in one of a
    /// dependency's: what the function at `poll` polls where a library wraps what it is given to
    /// spawn. `None` where the outermost one is no dependency's, or not certain, or several are as
    /// near.
    pub fn wrapped(&mut self, image: &Image, poll: VirtAddr) -> Option<Wrapped> {
        if let Some(known) = self.wrapped.get(&poll) {
            return known.clone();
        }
        let wrapped = self.look_into(image, poll);
        self.wrapped.insert(poll, wrapped.clone());
        wrapped
    }

    /// The async function or block whose code `function` holds: the outermost one, if others are
    /// inlined into it.
    pub fn within(&mut self, image: &Image, function: Range<VirtAddr>) -> Option<Definition> {
        if let Some(known) = self.within.get(&function.start) {
            return known.clone();
        }
        let start = function.start;
        let definition = self.look(image, start, Some(function));
        self.within.insert(start, definition.clone());
        definition
    }

    /// How many bytes from its first argument the function at `poll` finds the state of the
    /// outermost async function or block: a byte that is 0 before the first poll, 1 after the end,
    /// 2 after a panic, and 3 + N at await N (from 0, in the compiler's order). `None` where that
    /// machine is not certain, or the way from the argument to its state cannot be followed.
    ///
    /// Source of the numbers: `compiler/rustc_middle/src/ty/sty.rs`, `CoroutineArgs` (Rust 1.39 to
    /// 1.97).
    pub fn state_byte(&mut self, image: &Image, poll: VirtAddr) -> Option<u32> {
        if let Some(known) = self.states.get(&poll) {
            return *known;
        }
        let found = self.look_for_state(image, poll);
        self.states.insert(poll, found);
        found
    }

    /// The instructions that are executed when an await completes, in the loops of `function` that
    /// the instruction at `at` lies in. None where it is no state machine, or the code cannot be
    /// followed.
    pub fn completions(
        &mut self,
        image: &Image,
        function: Range<VirtAddr>,
        at: VirtAddr,
    ) -> Vec<Completion> {
        let panics = self.panics.get_or_init(|| ResumedPanics::find(image));
        let start = function.start;
        if !self.machines.contains_key(&start) {
            if panics.is_empty() || self.machines.len() >= MAX_MACHINES {
                return Vec::new();
            }
            let machine = machine(image, &mut self.blocks, panics, function);
            self.machines.insert(start, machine);
        }
        let machine = self.machines.get(&start).and_then(Option::as_ref);
        machine.map_or_else(Vec::new, |machine| machine.completions(image, at))
    }

    /// Lets go of the code that was decoded on the way; what was found stays known.
    pub fn forget_code(&mut self) {
        self.blocks = Blocks::default();
    }

    fn look_for_state(&mut self, image: &Image, poll: VirtAddr) -> Option<u32> {
        let is_certain = self.outermost(image, poll)?.certain;
        if !is_certain || self.visited >= MAX_VISITED {
            return None;
        }
        let panics = self.panics.get_or_init(|| ResumedPanics::find(image));
        let walked = Walk::new(image, &mut self.blocks, panics, None).run(poll);
        self.visited += walked.visited;
        state_byte(image, &mut self.blocks, poll, &walked.entries)
    }

    fn look_into(&mut self, image: &Image, poll: VirtAddr) -> Option<Wrapped> {
        let outermost = self.outermost(image, poll).filter(|found| found.certain)?;
        if is_workspace(&outermost.location.file) {
            return None;
        }
        let (mut passed, mut wrappers, mut is_certain) = (Vec::new(), Vec::new(), true);
        while wrappers.len() <= MAX_WRAPPERS && self.visited < MAX_VISITED {
            let panics = self.panics.get_or_init(|| ResumedPanics::find(image));
            let walk = Walk::new(image, &mut self.blocks, panics, None).around(&passed);
            let walked = walk.run(poll);
            self.visited += walked.visited;
            let (first, others) = walked.found.split_first()?;
            // Of two that are as near, either may be meant.
            if others.iter().any(|other| other.tests <= first.tests) {
                return None;
            }
            let location = panic_location(image, first.location)?;
            is_certain &= walked.is_alone;
            if is_workspace(&location.file) {
                return Some(Wrapped {
                    definition: Definition {
                        location,
                        certain: is_certain,
                    },
                    wrappers,
                });
            }
            passed.push(first.location);
            wrappers.push(location);
        }
        None
    }

    fn look(
        &mut self,
        image: &Image,
        start: VirtAddr,
        within: Option<Range<VirtAddr>>,
    ) -> Option<Definition> {
        let panics = self.panics.get_or_init(|| ResumedPanics::find(image));
        if panics.is_empty() || self.visited >= MAX_VISITED {
            return None;
        }
        let walked = Walk::new(image, &mut self.blocks, panics, within).run(start);
        self.visited += walked.visited;
        definition(image, &walked)
    }
}

fn definition(image: &Image, walked: &Walked) -> Option<Definition> {
    let (first, others) = walked.found.split_first()?;
    let location = panic_location(image, first.location)?;
    // No other machine may be as near the surface, or beside it.
    let certain = walked.is_alone && others.iter().all(|other| other.tests > first.tests);
    Some(Definition { location, certain })
}
