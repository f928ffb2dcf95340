//! OpenTelemetry: what a receiver decodes with the protocol's own definitions is what the target
//! says of itself.

/// Makes a test of each function for each transport.
macro_rules! over_both {
    ($($name:ident),* $(,)?) => {
        mod http {
            $(#[test] fn $name() -> anyhow::Result<()> { super::$name(super::Transport::Http) })*
        }
        mod grpc {
            $(#[test] fn $name() -> anyhow::Result<()> { super::$name(super::Transport::Grpc) })*
        }
    };
}

mod options;
mod receivers;
mod serve;
mod signals;

use anyhow::Result;
use loopprobe_tests::{
    matrix::{self, Build, target},
    session::{Report, Session},
    target::Target,
    truth::Poll,
};

/// A session over all that a target with a record of its own does: some 40 ms a round.
fn watched(rounds: &str, args: &[&str]) -> Result<(Report, Vec<Poll>)> {
    matrix::loopprobe()?;
    let program = target(Build::DEFAULT, "truth")?;
    let all = ["sleep", "--gate", "inside", "--rounds", rounds, "--hold"];
    let mut target = Target::start(&program, &all)?;
    let session = Session::attach(target.pid(), args)?;
    let truth = target.work()?;
    Ok((session.interrupt()?, truth))
}
