//! Starts a program, observes it from its first instruction, and ends with its code or the gate's.

use std::{
    ffi::OsString,
    os::unix::process::ExitStatusExt as _,
    process::{Child, ExitStatus},
};

use anyhow::Context as _;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    failure::refuse,
    gate::Gate,
    held_child::{HeldChild, find_program},
    memory_limit, monitor, privileges,
    session_output::SessionOutput,
    signals::Signals,
    snapshot, views,
};
use crate::{
    cli::{Exit, GlobalArgs, RunArgs},
    collect::{Observer, Options, Stop},
};

pub(super) fn run(args: &RunArgs, global: &GlobalArgs) -> anyhow::Result<Exit> {
    let (name, arguments) = args
        .command
        .split_first()
        .context("name a program after --")?;
    refuse(args.session.refusal())?;
    views::refuse_same_file(
        Some(&args.output),
        &args.views,
        args.record.record.as_deref(),
        args.session.gate.junit.as_deref(),
    )?;
    let program = find_program(name)?;
    let gate = &args.session.gate;
    let mut judged = Gate::new(gate, global)?;
    judged.name(command_line(&args.command));
    let mut output = if gate.is_wanted() || gate.junit.is_some() {
        SessionOutput::beside_program(&args.output, judged, global)?
    } else {
        SessionOutput::open(&args.output, judged, global)?
    };
    output.add(views::open(&args.views)?);
    output.add(snapshot::on(&args.session, global.cache()));
    output.add(views::record(&args.record)?);
    let signals = Signals::block()?;
    let child = HeldChild::fork(&program, arguments)?;
    memory_limit::set();
    pass_on(signals, child.pid)?;
    let options = Options {
        program: Some(program),
        ..args.session.options(child.pid, global)
    };
    let told = monitor::add(&args.session.monitor, &options, global, &mut output)?;
    let observer = Observer::attach(&options)?;
    privileges::give_up(&observer)?;
    let child = child.release()?;
    let observed = observer.run(&mut output, &Stop::new()?);
    let status = wait(child)?;
    observed?;
    told.say(global);
    Ok(exit(status, &output, global))
}

fn command_line(words: &[OsString]) -> String {
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}

fn wait(mut child: Child) -> anyhow::Result<ExitStatus> {
    child.wait().context("cannot wait for the program")
}

/// The program's own code, unless it did well and a poll passed the limit.
fn exit(status: ExitStatus, output: &SessionOutput, global: &GlobalArgs) -> Exit {
    let gate = output.exit(global);
    match (status.code(), status.signal()) {
        (Some(0), _) => gate,
        (Some(code), _) => Exit::Child(u8::try_from(code).unwrap_or(u8::MAX)),
        (None, signal) => Exit::Child(u8::try_from(128 + signal.unwrap_or(0)).unwrap_or(u8::MAX)),
    }
}

fn pass_on(signals: Signals, pid: u32) -> anyhow::Result<()> {
    let child = Pid::from_raw(i32::try_from(pid)?);
    signals.on_each(move |signal, from_terminal| {
        // The terminal has sent its Ctrl-C to the whole foreground group, the program included.
        if !(signal == Signal::SIGINT && from_terminal) {
            // It may have ended meanwhile.
            let _ = kill(child, signal);
        }
    })
}
