//! What loopprobe costs, held against what other tools cost, in one run: `cargo xtask bench`.

mod build;
mod cache;
mod figure;
mod http;
mod own;
mod poll;
mod running;
mod sites;
mod start;
mod statistics;
mod switch;
mod watch;

use std::{fs, path::PathBuf};

use anyhow::{Context as _, ensure};
use clap::ValueEnum;

/// What was typed for `bench`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What to measure; everything, if nothing is named
    #[arg(value_enum)]
    names: Vec<Name>,
    /// How often each state takes its turn
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    turns: u32,
    /// For `start` and `cache`: measure with these processes instead of a program of this
    /// repository
    #[arg(long, value_name = "PID")]
    pid: Vec<u32>,
    /// Write the figures to this file too, one JSON object a line
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Name {
    /// What a poll costs more, against empty probes on the same sites
    Poll,
    /// loopprobe's own CPU time and memory, from 1,000 to 500,000 polls a second
    Own,
    /// Attaching to and detaching from a program with more than a thousand task types
    Sites,
    /// From the command to the first timed poll, with a program of more than a thousand task types
    Start,
    /// What is remembered of files saves: `ps`, `inspect`, and until the first report
    Cache,
    /// Watching without probes: what is left of a busy program's throughput
    Watch,
    /// The same: what a context switch costs
    Switch,
    /// Requests a second and latency of a busy web service, against other tools
    Http,
}

/// Measures, prints a table, and fails if a bar is missed.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let names: &[Name] = if args.names.is_empty() {
        Name::value_variants()
    } else {
        &args.names
    };
    let mut figures = Vec::new();
    for name in names {
        let measured = match name {
            Name::Poll => poll::measure(args.turns),
            Name::Own => own::measure(),
            Name::Sites => sites::measure(args.turns),
            Name::Start => start::measure(args.turns, &args.pid),
            Name::Cache => cache::measure(args.turns, &args.pid),
            Name::Watch => watch::measure(args.turns),
            Name::Switch => switch::measure(args.turns),
            Name::Http => http::measure(args.turns),
        }?;
        for figure in &measured {
            println!("{figure}");
        }
        figures.extend(measured);
    }
    if let Some(path) = &args.json {
        let lines: Result<Vec<String>, _> = figures.iter().map(serde_json::to_string).collect();
        fs::write(path, lines?.join("\n") + "\n")
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    let missed = figures.iter().filter(|f| f.is_missed()).count();
    ensure!(missed == 0, "{missed} bars are missed");
    Ok(())
}

/// Says what is being done, on standard error.
fn progress(what: &str) {
    eprintln!("bench: {what}");
}
