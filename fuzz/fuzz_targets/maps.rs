//! The fuzzer's entry to the parsers of `/proc/PID/maps` and `/proc/PID/status`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| loopprobe_fuzz::maps(bytes));
