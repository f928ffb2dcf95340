//! The fuzzer's entry to the walks over machine code of a hostile ELF file.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| loopprobe_fuzz::code(bytes));
