//! Prints the manual page, in roff, of loopprobe or of one subcommand.

use std::io::{self, Write as _};

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_mangen::Man;

use crate::cli::{Cli, Exit, ManArgs};

pub(super) fn run(args: &ManArgs) -> anyhow::Result<Exit> {
    let mut root = Cli::command();
    root.build();
    let page = match &args.command {
        None => root,
        Some(name) => subcommand_page(&root, name)?,
    };
    let mut roff = Vec::new();
    Man::new(page).render(&mut roff)?;
    io::stdout().write_all(&roff)?;
    Ok(Exit::Done)
}

fn subcommand_page(root: &clap::Command, name: &str) -> anyhow::Result<clap::Command> {
    let command = root
        .find_subcommand(name)
        .with_context(|| format!("there is no subcommand `{name}`; see loopprobe --help"))?;
    Ok(command.clone().version(env!("CARGO_PKG_VERSION")))
}
