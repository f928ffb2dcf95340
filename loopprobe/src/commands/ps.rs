use std::{
    collections::BTreeSet,
    io::{self, BufWriter, Write as _},
};

use anstyle::{AnsiColor, Style};

use super::{
    progress::Progress,
    survey::{Found, Survey},
};
use crate::{
    cli::{Exit, GlobalArgs, PsArgs},
    model::TaskKind,
    process::{self, ProcessError},
    report::clean,
    runtime::tokio::{DebugInfoLevel, TokioImage},
};

const NOTE: Style = AnsiColor::Yellow.on_default();

pub(super) fn run(_args: &PsArgs, global: &GlobalArgs) -> anyhow::Result<Exit> {
    let progress = Progress::new(global, "looking at all processes");
    let mut survey = Survey::default();
    let mut skipped = Skipped::default();
    let mut out = BufWriter::new(anstream::stdout());
    writeln!(
        out,
        "{:>8}  {:<15}  {:<10}  {:>10}  {:<10}  FILE",
        "PID", "NAME", "TOKIO", "TASK TYPES", "SYMBOLS"
    )?;
    for pid in process::all()? {
        match survey.process(pid) {
            Ok(found) => {
                skipped.add(&found);
                for image in &found.images {
                    write_row(&mut out, pid, image)?;
                }
            }
            Err(ProcessError::Denied { .. }) => skipped.processes += 1,
            // Gone meanwhile, or a kernel thread.
            Err(_) => {}
        }
    }
    drop(progress);
    out.flush()?;
    if !global.quiet {
        skipped.tell();
    }
    Ok(Exit::Done)
}

/// What could not be looked at, and is therefore missing from the list.
#[derive(Debug, Default)]
struct Skipped {
    processes: usize,
    files: BTreeSet<String>,
}

impl Skipped {
    fn add(&mut self, found: &Found) {
        let files = found
            .unreadable
            .iter()
            .map(|(path, reason)| format!("{}: {reason}", path.display()));
        self.files.extend(files);
    }

    fn tell(&self) {
        if self.processes > 0 {
            anstream::eprintln!(
                "{NOTE}note:{NOTE:#} {} processes belong to other users and could not be read; sudo loopprobe ps shows all",
                self.processes
            );
        }
        for file in &self.files {
            anstream::eprintln!("{NOTE}note:{NOTE:#} not read: {}", clean(file));
        }
    }
}

fn write_row(out: &mut impl io::Write, pid: u32, image: &TokioImage) -> io::Result<()> {
    let name = process::name(pid).unwrap_or_default();
    writeln!(
        out,
        "{pid:>8}  {:<15}  {:<10}  {:>10}  {:<10}  {}",
        clean(&name),
        clean(&image.tokio.join(",")),
        task_types(image),
        symbols(image),
        clean(&image.path.display().to_string()),
    )
}

/// Async task types; those of the blocking pool are left out, for they may block.
fn task_types(image: &TokioImage) -> usize {
    let vtables = image.sites.iter().flat_map(|site| &site.vtables);
    vtables
        .filter(|vtable| vtable.task.kind == TaskKind::Async)
        .count()
}

/// How much the file tells of names.
pub fn symbols(image: &TokioImage) -> &'static str {
    match (image.stripped, image.debug_info) {
        (true, DebugInfoLevel::None) => "stripped",
        (false, DebugInfoLevel::None) => "symbols",
        (_, DebugInfoLevel::LineTables) => "line info",
        (_, DebugInfoLevel::Limited | DebugInfoLevel::Full) => "debug info",
    }
}
