use clap::Args;

/// Which process.
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = false)]
pub struct TargetArgs {
    /// The process id, as `ps` and /proc show it here
    #[arg(long, short, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..=i64::from(i32::MAX)))]
    pub pid: Option<u32>,
    /// The process's name (that of its executable or its first thread); exactly one process must have it
    #[arg(long, short, value_name = "NAME")]
    pub name: Option<String>,
}
