//! What each subcommand does. The binary's half of the crate, kept in the library so that tests can reach it:
//! only here is anything printed, and errors are for people.

mod attach;
mod columns;
mod completions;
mod doctor;
mod failure;
mod gate;
mod held_child;
mod inspect;
mod invoking_user;
mod listing;
mod man;
mod memory_limit;
mod monitor;
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
mod target;
mod tasks;
mod top;
mod until_polled;
mod views;

use std::process::ExitCode;

use crate::cli::{Cli, Command, Exit, GlobalArgs};

fn dispatch(command: Command, global: &GlobalArgs) -> anyhow::Result<Exit> {
    // The program that `run` starts has no part in it, so there it comes later.
    if !matches!(command, Command::Run(_)) {
        memory_limit::set();
    }
    match command {
        Command::Attach(args) => attach::run(&args, global),
        Command::Run(args) => run::run(&args, global),
        Command::Ps(args) => ps::run(&args, global),
        Command::Inspect(args) => inspect::run(&args, global),
        Command::Tasks(args) => tasks::run(&args, global),
        Command::Doctor(args) => doctor::run(&args, global),
        Command::Top(args) => top::run(&args, global),
        Command::Record(args) => record::run(&args, global),
        Command::Report(args) => report::run(&args, global),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
    }
}

/// Does what was typed. Errors end on stderr; a reader that has closed the pipe is no error.
pub fn run(cli: Cli) -> ExitCode {
    cli.global.apply();
    match dispatch(cli.command, &cli.global) {
        Ok(exit) => exit.into(),
        Err(error) => failure::report(&error).into(),
    }
}
