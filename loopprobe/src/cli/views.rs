//! Options that ask for graphs, a page or a recording, each with the file that it goes to.

use std::path::{Path, PathBuf};

use clap::Args;

/// Views of the session beside the report, each in a file of its own.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Views")]
pub struct ViewArgs {
    /// Draw the blocked time of long polls as a flamegraph
    #[arg(long, value_name = "FILE.svg")]
    pub flamegraph: Option<PathBuf>,
    /// Draw the time of all polls, not only of long ones; those below the threshold have no stacks
    #[arg(long, requires = "flamegraph")]
    pub all_polls: bool,
    /// Leave the frames of the runtime and the standard library out of the flamegraph
    #[arg(long, requires = "flamegraph")]
    pub hide_runtime: bool,
    /// Write one page with the paragraph, the tables, the timeline and the flamegraph
    #[arg(long, value_name = "FILE.html")]
    pub html: Option<PathBuf>,
    /// Write a timeline for Perfetto or the Firefox Profiler
    #[arg(long, value_name = "FILE.json")]
    pub timeline: Option<PathBuf>,
    /// Write a profile for speedscope
    #[arg(long, value_name = "FILE.json")]
    pub speedscope: Option<PathBuf>,
    /// Write a profile for pprof
    #[arg(long, value_name = "FILE.pb.gz")]
    pub pprof: Option<PathBuf>,
    /// Write folded stacks, a line each
    #[arg(long, value_name = "FILE")]
    pub folded: Option<PathBuf>,
}

impl ViewArgs {
    /// The files that were asked for, each with its option.
    pub fn files(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        [
            ("--flamegraph", &self.flamegraph),
            ("--html", &self.html),
            ("--timeline", &self.timeline),
            ("--speedscope", &self.speedscope),
            ("--pprof", &self.pprof),
            ("--folded", &self.folded),
        ]
        .into_iter()
        .filter_map(|(option, path)| Some((option, path.as_deref()?)))
    }
}

/// Whether the session is recorded too.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Views")]
pub struct RecordArg {
    /// Record the session, for `loopprobe report`; the file must not exist yet
    #[arg(long, value_name = "FILE.lpr")]
    pub record: Option<PathBuf>,
}
