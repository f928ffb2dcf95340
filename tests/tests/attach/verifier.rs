//! The kernel's verifier has room left for every program: two changes that it takes each may be too
//! much together.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use loopprobe_tests::{
    matrix::{Build, target},
    session::Session,
    take_machine,
    target::Target,
};

/// The verifier gives up after looking at so many instructions (`BPF_COMPLEXITY_LIMIT_INSNS` in
/// `include/linux/bpf.h`).
const LIMIT: u64 = 1_000_000;

/// How many instructions the verifier has looked at for each program that a process holds
/// (`fdinfo`, Linux 5.16).
fn verified(pid: u32) -> Result<Vec<u64>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        // Some are closed meanwhile.
        let Ok(info) = fs::read_to_string(entry?.path()) else {
            continue;
        };
        let number = info
            .lines()
            .find_map(|line| line.strip_prefix("verified_insns:"));
        if let Some(number) = number {
            found.push(number.trim().parse()?);
        }
    }
    Ok(found)
}

fn check(args: &[&str]) -> Result<()> {
    take_machine!();
    let program = target(Build::DEFAULT, "busy")?;
    let target = Target::start(&program, &["--millis", "60000", "--rounds", "100"])?;
    let session = Session::attach(target.pid(), args)?;
    let verified = verified(session.pid())?;
    session.interrupt()?;
    let most = verified
        .iter()
        .max()
        .context("the kernel tells of programs")?;
    println!(
        "{args:?}: {} programs, at most {most} instructions",
        verified.len()
    );
    ensure!(
        *most < LIMIT / 2,
        "{most} of {LIMIT} instructions: {verified:?}"
    );
    Ok(())
}

#[test]
fn every_program_leaves_the_verifier_half_of_its_limit() -> Result<()> {
    check(&[])?;
    check(&["--light"])?;
    check(&["--mode", "watch"])
}
