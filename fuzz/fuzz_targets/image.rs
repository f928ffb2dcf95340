//! The fuzzer's entry to parsing an ELF file and searching it for task types.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| loopprobe_fuzz::image(bytes));
