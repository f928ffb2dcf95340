//! Splits bytes into registers, stack and ELF file, and checks what holds of any walk.

use loopprobe::{
    elf::ProcAddr,
    unwind::{Module, RawStack, Registers, Unwinder, Unwound},
};

use crate::file::{file, mapping};

/// The walks that begin at places spread over the module, beside the one at the given instruction.
const WALKS: u64 = 16;
/// As `loopprobe::unwind` has it.
const MAX_FRAMES: usize = 1024;

/// What an input begins with: six words, the length of the stack, and the stack. The rest is an ELF
/// file.
struct Input<'a> {
    start: u64,
    file_offset: u64,
    regs: Registers,
    entry_sp: u64,
    stack: &'a [u8],
    elf: &'a [u8],
}

impl<'a> Input<'a> {
    fn read(mut bytes: &'a [u8]) -> Option<Self> {
        let mut word = || {
            let (word, rest) = bytes.split_first_chunk()?;
            bytes = rest;
            Some(u64::from_le_bytes(*word))
        };
        let [start, file_offset, ip, sp, bp, entry_sp] =
            [word()?, word()?, word()?, word()?, word()?, word()?];
        let (len, rest) = bytes.split_first_chunk()?;
        let (stack, elf) = rest.split_at_checked(u16::from_le_bytes(*len).into())?;
        Some(Self {
            start,
            file_offset,
            regs: Registers {
                ip,
                sp,
                bp,
                ..Registers::default()
            },
            entry_sp,
            stack,
            elf,
        })
    }

    fn raw(&self, ip: u64, entry_sp: Option<u64>) -> RawStack {
        RawStack {
            regs: Registers { ip, ..self.regs },
            bytes: self.stack.to_vec(),
            outermost: Vec::new(),
            entry_sp: entry_sp.map(ProcAddr),
        }
    }
}

/// An ELF file with unwind information, registers and a stack: the stack is walked.
pub fn unwind(bytes: &[u8]) {
    let Some(input) = Input::read(bytes) else {
        return;
    };
    let len = input.elf.len() as u64;
    let mapping = mapping(input.start, len, input.file_offset);
    let Some(module) = Module::of_file(0, file(input.elf), &mapping) else {
        return;
    };
    let mut unwinder = Unwinder::of_modules(vec![module]);
    let places = (0..WALKS).map(|walk| input.start.wrapping_add(len * walk / WALKS));
    for ip in [input.regs.ip].into_iter().chain(places) {
        for entry_sp in [None, Some(input.entry_sp)] {
            let unwound = unwinder.unwind(input.raw(ip, entry_sp));
            check(&unwound, entry_sp);
        }
        let _ = unwinder.unwind_thread(&input.raw(ip, None));
    }
}

/// What holds of any walk.
fn check(unwound: &Unwound, entry_sp: Option<u64>) {
    let frames = &unwound.frames;
    assert!(frames.len() <= MAX_FRAMES);
    assert!(
        frames.is_sorted_by_key(|frame| frame.cfa.map_or(u64::MAX, |cfa| cfa.0)),
        "a stack grows one way: {frames:?}"
    );
    if let (true, Some(entry_sp)) = (unwound.outcome.is_whole(), entry_sp) {
        let last = frames.last().and_then(|frame| frame.cfa);
        assert_eq!(last, Some(ProcAddr(entry_sp.wrapping_add(8))));
    }
    for frame in frames {
        let _ = frame.offset();
        if let (Some(module), Some(address)) = (&frame.module, frame.virt()) {
            let _ = module.function_at(address);
        }
    }
}
