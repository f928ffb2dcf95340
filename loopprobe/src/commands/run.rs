use std::{
    os::unix::process::ExitStatusExt as _,
    process::{Child, ExitStatus},
};

use anyhow::Context as _;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    held_child::{HeldChild, find_program},
    memory_limit, monitor, privileges,
    session_output::SessionOutput,
    signals::Signals,
    views,
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
    views::refuse_same_file(
        Some(&args.output),
        &args.views,
        args.record.record.as_deref(),
    )?;
    let program = find_program(name)?;
    let mut output = SessionOutput::open(&args.output, &args.observe, global)?;
    output.add(views::open(&args.views)?);
    output.add(views::record(&args.record)?);
    let signals = Signals::block()?;
    let child = HeldChild::fork(&program, arguments)?;
    memory_limit::set();
    pass_on(signals, child.pid)?;
    let options = Options {
        program: Some(program),
        ..args
            .monitor
            .alert
            .widen(args.observe.options(child.pid, global))
    };
    let told = monitor::add(&args.monitor, &options, global, &mut output)?;
    let observer = Observer::attach(&options)?;
    privileges::give_up(&observer)?;
    let child = child.release()?;
    let observed = observer.run(&mut output, &Stop::new()?);
    let status = wait(child)?;
    observed?;
    told.say(global);
    Ok(exit(status, &output))
}

fn wait(mut child: Child) -> anyhow::Result<ExitStatus> {
    child.wait().context("cannot wait for the program")
}

/// The program's own code, unless it did well and a poll passed the limit.
fn exit(status: ExitStatus, output: &SessionOutput) -> Exit {
    match (status.code(), status.signal()) {
        (Some(0), _) => output.exit(),
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
