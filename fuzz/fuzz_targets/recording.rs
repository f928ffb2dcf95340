#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| loopprobe_fuzz::recording(bytes));
