//! Options for the report: text or JSON, standard output or a file, whole or shortened.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Where the report goes, and in which form.
#[derive(Args, Clone, Debug)]
pub struct OutputArgs {
    /// The report's form
    #[arg(
        long,
        short,
        display_order = 6,
        value_enum,
        hide_possible_values = true,
        value_name = "text|json",
        default_value = "text"
    )]
    pub format: Format,
    /// Write the report to a file instead of stdout
    #[arg(long, short, display_order = 5, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Show each long poll with its stacks, not only the first of a kind
    #[arg(long, short, display_order = 7)]
    pub verbose: bool,
}

/// The report's form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line; docs/json.md has the schema.
    Json,
}
