//! The fuzzer's entry to the shortening of type names for people.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| loopprobe_fuzz::names(bytes));
