//! The fuzzer's entry to reading a recording and showing its events in three views.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| loopprobe_fuzz::recording(bytes));
