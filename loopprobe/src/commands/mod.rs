//! What each subcommand does. The binary's half of the crate, kept in the library so that tests can reach it:
//! only here is anything printed, and errors are for people.

mod attach;
mod completions;
mod doctor;
mod fail_over;
mod failure;
mod held_child;
mod inspect;
mod invoking_user;
mod man;
mod memory_limit;
mod output_file;
mod privileges;
mod progress;
mod ps;
mod record;
mod report;
mod run;
pub mod screen;
mod session_output;
mod signals;
mod survey;
mod top;
mod views;

use std::process::ExitCode;

use clap::Subcommand;

use crate::cli::{Cli, Exit, GlobalArgs};

/// The subcommands, each with what was typed for it.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Report the long polls of a running process
    Attach(attach::AttachArgs),
    /// Start a program and report its long polls from the first one on
    Run(run::RunArgs),
    /// List the running processes that use Tokio
    Ps(ps::PsArgs),
    /// Show what a program, or a process, has of Tokio: task types, names, probe sites
    Inspect(inspect::InspectArgs),
    /// Say what works on this machine, and how to mend what does not
    Doctor(doctor::DoctorArgs),
    /// Watch a running process on the terminal
    Top(top::TopArgs),
    /// Record a running process's long polls to a file
    Record(record::RecordArgs),
    /// Show a recording, in every form
    Report(report::ReportArgs),
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs),
    /// Print the manual page
    Man(man::ManArgs),
}

impl Command {
    fn run(self, global: &GlobalArgs) -> anyhow::Result<Exit> {
        // The program that `run` starts has no part in it, so there it comes later.
        if !matches!(self, Self::Run(_)) {
            memory_limit::set();
        }
        match self {
            Self::Attach(args) => attach::run(&args, global),
            Self::Run(args) => run::run(&args, global),
            Self::Ps(args) => ps::run(&args, global),
            Self::Inspect(args) => inspect::run(&args, global),
            Self::Doctor(args) => doctor::run(&args, global),
            Self::Top(args) => top::run(&args, global),
            Self::Record(args) => record::run(&args, global),
            Self::Report(args) => report::run(&args, global),
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
