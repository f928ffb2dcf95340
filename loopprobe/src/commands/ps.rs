//! Lists every process that uses Tokio, and says what could not be read.

use std::{
    collections::BTreeSet,
    io::{BufWriter, Write as _},
};

use anstyle::{AnsiColor, Style};

use super::{
    columns::columns_of,
    listing::{Listing, Row},
    progress::Progress,
    survey::{Found, Survey},
};
use crate::{
    cache::Seen,
    cli::{Exit, GlobalArgs, PsArgs},
    process::{self, ProcessError},
    report::clean,
};

const NOTE: Style = AnsiColor::Yellow.on_default();

pub(super) fn run(_args: &PsArgs, global: &GlobalArgs) -> anyhow::Result<Exit> {
    let progress = Progress::new(global, "looking at all processes");
    let mut seen = Seen::open(global.cache());
    let mut survey = Survey::new(|file, path: &_| seen.presence(file, path));
    let mut skipped = Skipped::default();
    let mut rows = Vec::new();
    for pid in process::all()? {
        match survey.process(pid) {
            Ok(found) => {
                skipped.add(&found);
                rows.extend(found.images.iter().map(|image| Row::new(pid, image)));
            }
            Err(ProcessError::Denied { .. }) => skipped.processes += 1,
            // Gone meanwhile, or a kernel thread.
            Err(_) => {}
        }
    }
    drop(progress);
    let mut out = BufWriter::new(anstream::stdout());
    Listing::new(rows).write(&mut out, columns_of(&std::io::stdout()))?;
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
    fn add<T>(&mut self, found: &Found<T>) {
        let files = found
            .unreadable
            .iter()
            .map(|(path, reason)| format!("{}: {reason}", path.display()));
        self.files.extend(files);
    }

    fn tell(&self) {
        if self.processes > 0 {
            let processes = match self.processes {
                1 => "1 process".to_owned(),
                many => format!("{many} processes"),
            };
            anstream::eprintln!(
                "{NOTE}note:{NOTE:#} {processes} could not be read: {}",
                process::how_to_read()
            );
        }
        for file in &self.files {
            anstream::eprintln!("{NOTE}note:{NOTE:#} not read: {}", clean(file));
        }
    }
}
