//! The `loopprobe` command.

fn main() {}
