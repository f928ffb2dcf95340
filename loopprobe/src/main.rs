//! The `loopprobe` command.

use std::process::ExitCode;

use clap::Parser as _;
use loopprobe::{cli::Cli, commands};

fn main() -> ExitCode {
    commands::run(Cli::parse())
}
