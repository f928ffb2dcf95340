//! The fuzzer's entry to looking up addresses in hostile symbols and debug information.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| loopprobe_fuzz::symbolize(bytes));
