//! Integration tests of loopprobe.

pub mod synthetic;
