//! The `loopprobe` command.

use std::process::ExitCode;

use loopprobe::commands;

fn main() -> ExitCode {
    commands::run(std::env::args_os().collect())
}
