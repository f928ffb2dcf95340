//! `loopprobe snapshot`: all that can be told of a process at one moment, in one file for a ticket.

mod on;
mod system;
mod write;

use std::{
    cell::RefCell,
    io::{self, BufWriter, Write as _},
    path::{Path, PathBuf},
    rc::Rc,
};

pub(super) use self::on::on;
use self::system::System;
use super::{
    columns::columns_of,
    gate::Gate,
    output_file::{OutputFile, STDOUT},
    privileges,
    session_output::SessionOutput,
    signals::Signals,
    target,
};
use crate::{
    cache::Cache,
    cli::{Exit, GlobalArgs, SnapshotArgs, SnapshotFormat},
    collect::{Options, Stop, debug_files::GivenDebugFiles},
    inventory::{Census, Inventory, InventoryError},
    model::{Event, Session, Sink, Summary},
    process::{self, About},
    runtime::RUNTIMES,
};

/// More long polls than this are not kept, but counted by the summary.
const MOST_EVENTS: usize = 10_000;

/// How wide text is where it goes to no terminal: a ticket shows long lines badly.
const COLUMNS: usize = 120;

/// What was found.
struct Snapshot {
    pid: u32,
    name: String,
    command: Vec<String>,
    system: System,
    /// The live tasks, or why they cannot be told.
    tasks: Result<Census, String>,
    /// The session's events in their order.
    events: Vec<Event>,
    /// Events that were not kept.
    dropped: u64,
    /// Why a session took it by itself, and when (nanoseconds since the Unix epoch).
    why: Option<String>,
    taken_unix_ns: Option<u64>,
}

impl Snapshot {
    fn session(&self) -> Option<&Session> {
        self.events.iter().find_map(|event| match event {
            Event::Session(session) => Some(session),
            _ => None,
        })
    }

    fn summary(&self) -> Option<&Summary> {
        self.events.iter().find_map(|event| match event {
            Event::Summary(summary) => Some(summary),
            _ => None,
        })
    }
}

/// Takes a snapshot.
///
/// # Errors
/// When the process cannot be observed, or the file not be written.
pub(super) fn run(args: &SnapshotArgs, global: &GlobalArgs) -> anyhow::Result<Exit> {
    let pid = target::pid(&args.target)?;
    let (stop, signals) = (Stop::new()?, Signals::block()?);
    let path = args.output.as_deref().unwrap_or(Path::new(STDOUT));
    let mut file = BufWriter::new(OutputFile::create(path)?);
    signals.stop(&stop)?;
    let system = System::of(pid);
    let tasks = tasks(pid, &args.debug_file, global.cache()).map_err(|error| error.to_string());
    let kept = Rc::new(RefCell::new(Kept::default()));
    let mut output = SessionOutput::without_report(Gate::default(), global);
    output.add(vec![Box::new(Keeper(Rc::clone(&kept)))]);
    let options = Options {
        duration: Some(args.duration),
        threshold: args.threshold,
        // One line of values over time.
        interval: Some(args.duration.max(Options::SHORTEST_INTERVAL)),
        threads: true,
        debug_files: args.debug_file.clone(),
        cache: global.cache(),
        kernel_log: global.kernel_log(),
        ..Options::new(pid)
    };
    let (name, command) = (process::name(pid)?, About::read(pid).command);
    privileges::observe(&options, &mut output, &stop)?;
    let kept = kept.take();
    let snapshot = Snapshot {
        pid,
        name,
        command,
        system,
        tasks,
        events: kept.events,
        dropped: kept.dropped,
        why: None,
        taken_unix_ns: None,
    };
    match args.format {
        SnapshotFormat::Text => {
            let terminal = args.output.is_none().then(|| columns_of(&io::stdout()));
            let columns = terminal.flatten().unwrap_or(COLUMNS);
            file.write_all(&plain_text(&snapshot, columns)?)?;
        }
        SnapshotFormat::Json => write::json(&snapshot, &mut file)?,
        SnapshotFormat::Html => write::html(&snapshot, &mut file)?,
    }
    file.flush()?;
    Ok(Exit::Done)
}

/// Without colours.
fn plain_text(snapshot: &Snapshot, columns: usize) -> io::Result<Vec<u8>> {
    let mut text = anstream::StripStream::new(Vec::new());
    write::text(snapshot, columns, &mut text)?;
    Ok(text.into_inner())
}

fn tasks(pid: u32, debug_files: &[PathBuf], cache: Cache) -> Result<Census, InventoryError> {
    let mut debug_files = GivenDebugFiles::new(debug_files);
    let mut inventory = Inventory::of(RUNTIMES, pid, cache, &mut |image| debug_files.of(image))?;
    Ok(inventory.take()?)
}

/// The events of a session.
#[derive(Default)]
struct Kept {
    events: Vec<Event>,
    dropped: u64,
}

struct Keeper(Rc<RefCell<Kept>>);

impl Sink for Keeper {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        let mut kept = self.0.borrow_mut();
        if kept.events.len() < MOST_EVENTS || matches!(event, Event::Summary(_)) {
            kept.events.push(event.clone());
        } else {
            kept.dropped += 1;
        }
        Ok(())
    }
}
