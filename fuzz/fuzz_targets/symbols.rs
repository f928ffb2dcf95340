//! Any symbol becomes a name for people.
#![no_main]

use libfuzzer_sys::fuzz_target;
use loopprobe::symbolize::FunctionName;

fuzz_target!(|symbol: &str| {
    let _ = FunctionName::of_symbol(symbol);
});
