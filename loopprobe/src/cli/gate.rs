//! Options that make a session fail: limits, a baseline, and the reports that machines read.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};

use super::parse_duration;

/// When a session counts as failed, and who is told in a machine's form.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Gate for CI")]
pub struct GateArgs {
    /// Exit with code 3 if a poll took longer than this by its own doing: on a CPU or waiting for
    /// what it asked for. Time that others took from it (no CPU free, CPU quota, stopped, frozen)
    /// does not count
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub fail_over: Option<Duration>,
    /// The same for wall time, whoever's doing it was
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub fail_over_wall: Option<Duration>,
    /// Exit with code 4 if something got worse than in this recording, beyond chance
    #[arg(long, value_name = "FILE.lpr")]
    pub baseline: Option<PathBuf>,
    /// Write the outcome as JUnit XML; `%p` in the name stands for loopprobe's process id
    #[arg(long, value_name = "FILE.xml")]
    pub junit: Option<PathBuf>,
    /// Mark the lines that failed, on standard error, in the form that GitHub Actions reads;
    /// `auto`: where GITHUB_ACTIONS is set
    #[arg(
        long,
        value_enum,
        hide_possible_values = true,
        value_name = "auto|github|never",
        default_value = "auto"
    )]
    pub annotations: AnnotationsArg,
}

/// Whether lines are marked for GitHub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AnnotationsArg {
    /// Where `GITHUB_ACTIONS` is set, as GitHub's runners do.
    Auto,
    /// Always.
    Github,
    /// Never.
    Never,
}

impl GateArgs {
    /// Whether the session can fail.
    pub fn is_wanted(&self) -> bool {
        self.least().is_some() || self.baseline.is_some()
    }

    /// The smaller limit: shorter polls need not be seen for its sake.
    pub fn least(&self) -> Option<Duration> {
        self.fail_over.into_iter().chain(self.fail_over_wall).min()
    }

    /// Whether lines are to be marked.
    pub fn annotates(&self) -> bool {
        match self.annotations {
            AnnotationsArg::Auto => {
                std::env::var_os("GITHUB_ACTIONS").is_some_and(|on| on == "true")
            }
            AnnotationsArg::Github => true,
            AnnotationsArg::Never => false,
        }
    }
}
