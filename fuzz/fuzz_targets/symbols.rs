//! The fuzzer's entry to the demangling of one function symbol.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| loopprobe_fuzz::symbols(bytes));
