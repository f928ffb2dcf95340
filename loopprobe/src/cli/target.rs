//! Options that name one process, by id or by name; a bare word is refused with advice.

use clap::Args;

/// Which process.
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = false)]
pub struct TargetArgs {
    /// The process id, as `ps` and /proc show it here
    #[arg(long, short, display_order = 1, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..=i64::from(i32::MAX)))]
    pub pid: Option<u32>,
    /// The process's name, or else a part of its command line; `loopprobe ps` shows both
    #[arg(long, short, display_order = 2, value_name = "NAME")]
    pub name: Option<String>,
    /// Refused, with what to type instead
    #[arg(value_name = "PROCESS", hide = true, value_parser = name_the_option)]
    stray: Option<String>,
}

/// Many tools take a bare process id or name.
fn name_the_option(typed: &str) -> Result<String, String> {
    let option = match typed.parse::<u32>() {
        Ok(_) => "--pid",
        Err(_) => "--name",
    };
    Err(format!("name the process with `{option} {typed}`"))
}
