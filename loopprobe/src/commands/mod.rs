//! What each subcommand does. The binary's half of the crate, kept in the library so that tests can reach it:
//! only here is anything printed, and errors are for people.

mod completions;
mod failure;
mod inspect;
mod man;

use std::process::ExitCode;

use clap::Subcommand;

use crate::cli::{Cli, Exit, GlobalArgs};

/// The subcommands, each with what was typed for it.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show what a program, or a process, has of Tokio: task types, names, probe sites
    Inspect(inspect::InspectArgs),
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs),
    /// Print the manual page
    Man(man::ManArgs),
}

impl Command {
    fn run(self, global: &GlobalArgs) -> anyhow::Result<Exit> {
        let _ = global;
        match self {
            Self::Inspect(args) => inspect::run(&args),
            Self::Completions(args) => completions::run(&args),
            Self::Man(args) => man::run(&args),
        }
    }
}

/// Does what was typed. Errors end on stderr; a reader that has closed the pipe is no error.
pub fn run(cli: Cli) -> ExitCode {
    cli.global.apply();
    match cli.command.run(&cli.global) {
        Ok(exit) => exit.into(),
        Err(error) => failure::report(&error).into(),
    }
}
