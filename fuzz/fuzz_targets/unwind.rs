//! The fuzzer's entry to stack walks with hostile registers, stack and unwind information.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| loopprobe_fuzz::unwind(bytes));
