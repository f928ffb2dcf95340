//! Integration tests of loopprobe.
