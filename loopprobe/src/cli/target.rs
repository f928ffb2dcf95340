use anyhow::bail;
use clap::Args;

use crate::process;

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

impl TargetArgs {
    /// The process that is meant.
    ///
    /// # Errors
    ///
    /// A sentence for the user if no process, or more than one, has the name.
    pub fn pid(&self) -> anyhow::Result<u32> {
        match (self.pid, &self.name) {
            (Some(pid), _) => Ok(pid),
            (None, Some(name)) => only_one(name, &process::by_name(name)?),
            (None, None) => bail!("name a process with --pid or --name"),
        }
    }
}

fn only_one(name: &str, pids: &[u32]) -> anyhow::Result<u32> {
    match pids {
        [pid] => Ok(*pid),
        [] => bail!("no process is called `{name}`; `loopprobe ps` lists those that use Tokio"),
        many => {
            let list: Vec<String> = many.iter().map(u32::to_string).collect();
            bail!(
                "{} processes are called `{name}`: {}; choose one with --pid",
                many.len(),
                list.join(", ")
            )
        }
    }
}
