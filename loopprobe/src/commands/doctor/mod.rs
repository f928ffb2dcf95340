//! Says what works here, by trying it, and for what does not the command that mends it.

mod check;
mod host;
mod kernel;
mod target;

use std::io::{BufWriter, Write as _};

use self::check::Check;
use super::progress::Progress;
use crate::{
    cli::{DoctorArgs, Exit, GlobalArgs},
    process,
};

pub(super) fn run(args: &DoctorArgs, global: &GlobalArgs) -> anyhow::Result<Exit> {
    let progress = Progress::new(global, "trying what works here");
    let mut checks = host::checks();
    checks.extend(kernel::checks());
    if let Some(pid) = args.pid {
        // A wrong process id is an error of its own, not a finding.
        process::pidfd(pid)?;
        checks.extend(target::checks(pid));
    }
    drop(progress);
    let mut out = BufWriter::new(anstream::stdout());
    for check in checks
        .iter()
        .filter(|check| !global.quiet || check.is_bad())
    {
        check.write(&mut out)?;
    }
    out.flush()?;
    let bad = checks.iter().any(Check::is_bad);
    Ok(if bad { Exit::Failed } else { Exit::Done })
}
