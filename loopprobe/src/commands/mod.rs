//! What each subcommand does. The binary's half of the crate, kept in the library so that tests can
//! reach it: only here is anything printed, and errors are for people.

mod attach;
mod columns;
mod completions;
mod cut_files;
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
mod observed;
mod output_file;
mod privileges;
mod progress;
mod ps;
mod record;
mod reload;
mod replay;
mod report;
mod run;
mod say;
pub mod screen;
mod serve;
mod session_output;
mod signals;
mod snapshot;
mod survey;
mod target;
mod tasks;
mod top;
mod until_polled;
mod views;

use std::{ffi::OsString, process::ExitCode};

use crate::cli::{Cli, CliError, Command, ConfigArgs, Exit};

fn dispatch(cli: &Cli) -> anyhow::Result<Exit> {
    let (command, global) = (&cli.command, &cli.global);
    if config_of(command).is_some_and(|config| config.print_config) {
        print!("{}", cli.settings);
        return Ok(Exit::Done);
    }
    // The program that `run` starts has no part in it, so there it comes later.
    if !matches!(command, Command::Run(_)) {
        memory_limit::set();
    }
    match command {
        Command::Attach(args) => attach::run(args, cli),
        Command::Run(args) => run::run(args, global),
        Command::Ps(args) => ps::run(args, global),
        Command::Inspect(args) => inspect::run(args, global),
        Command::Tasks(args) => tasks::run(args, global),
        Command::Snapshot(args) => snapshot::run(args, global),
        Command::Doctor(args) => doctor::run(args, global),
        Command::Top(args) => top::run(args, global),
        Command::Record(args) => record::run(args, cli),
        Command::Serve(args) => serve::run(args, cli),
        Command::Report(args) => report::run(args, global),
        Command::Completions(args) => completions::run(args),
        Command::Man(args) => man::run(args),
    }
}

fn config_of(command: &Command) -> Option<&ConfigArgs> {
    match command {
        Command::Attach(args) => Some(&args.config),
        Command::Run(args) => Some(&args.config),
        Command::Record(args) => Some(&args.config),
        Command::Serve(args) => Some(&args.config),
        _ => None,
    }
}

/// Does what was typed. Errors end on stderr; a reader that has closed the pipe is no error.
pub fn run(typed: Vec<OsString>) -> ExitCode {
    let cli = match Cli::read(typed) {
        Ok(cli) => cli,
        Err(CliError::Typed(error)) => error.exit(),
        Err(CliError::Config(error)) => {
            say::error(&crate::report::clean(&error.to_string()));
            return Exit::Usage.into();
        }
    };
    cli.global.apply();
    cut_files::survive();
    match dispatch(&cli) {
        Ok(exit) => exit.into(),
        Err(error) => failure::report(&error).into(),
    }
}
