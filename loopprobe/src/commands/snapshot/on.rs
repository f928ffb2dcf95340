//! Snapshots that a session takes by itself, each written to a file by a thread of its own.

use std::{
    collections::VecDeque,
    io::{self, Write as _},
    path::{Path, PathBuf},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::Context as _;

use super::{
    super::{output_file::OutputFile, say},
    COLUMNS, Snapshot,
    system::System,
    tasks,
};
use crate::{
    cache::Cache,
    cli::SessionArgs,
    model::{Event, Session, Sink, Summary},
    process::About,
    report::{WallClock, clean, rfc3339},
};

/// So many of the last events are kept: a long poll with its stacks takes some ten kilobytes.
const MOST_EVENTS: usize = 200;
/// How long the session's end waits for a snapshot that is being written: the live tasks of a large
/// program take seconds.
const GRACE: Duration = Duration::from_secs(10);
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// What takes them, if that is wanted.
pub(in crate::commands) fn on(session: &SessionArgs, cache: Cache) -> Vec<Box<dyn Sink>> {
    let args = &session.snapshot;
    let taker = args.snapshot_on.map(|_| Taker {
        folder: args.snapshot_to.clone().unwrap_or_default(),
        cache,
        debug_files: session.observe.debug_file.clone(),
        head: None,
        recent: VecDeque::new(),
        dropped: 0,
        writing: Vec::new(),
    });
    let taker = taker.map(|taker| Box::new(taker) as Box<dyn Sink>);
    taker.into_iter().collect()
}

/// Keeps what a snapshot needs of a session.
struct Taker {
    folder: PathBuf,
    cache: Cache,
    debug_files: Vec<PathBuf>,
    /// The session's head.
    head: Option<Session>,
    recent: VecDeque<Event>,
    dropped: u64,
    writing: Vec<(PathBuf, JoinHandle<io::Result<()>>)>,
}

impl Taker {
    /// Begins to write a snapshot, and gives the file's path.
    fn begin(&mut self, now: &Summary) -> anyhow::Result<PathBuf> {
        let head = self.head.clone().context("the session has not begun")?;
        let taken_unix_ns = WallClock::of(&head).unix_ns(head.start_ns + now.duration_ns);
        let path = self.folder.join(file_name(head.pid, taken_unix_ns));
        let file = OutputFile::create_new(&path)?;
        let events = [Event::Session(head.clone())]
            .into_iter()
            .chain(self.recent.iter().cloned())
            .chain([Event::Summary(now.clone())]);
        let snapshot = Snapshot {
            pid: head.pid,
            name: head.name,
            command: Vec::new(),
            system: System::default(),
            tasks: Err(String::new()),
            events: events.collect(),
            dropped: self.dropped,
            why: Some(now.reason.clone()),
            taken_unix_ns: Some(taken_unix_ns),
        };
        let (cache, debug_files) = (self.cache, self.debug_files.clone());
        let writer = thread::Builder::new().name("loopprobe-snap".into());
        let writer = writer.spawn(move || write(snapshot, cache, &debug_files, file))?;
        self.writing.push((path.clone(), writer));
        Ok(path)
    }

    /// Waits for what is being written, and says what could not be.
    fn finish(&mut self) {
        let until = Instant::now() + GRACE;
        for (path, writer) in self.writing.drain(..) {
            while !writer.is_finished() && Instant::now() < until {
                thread::sleep(BETWEEN_LOOKS);
            }
            let failed = match writer.is_finished().then(|| writer.join()) {
                Some(Ok(Ok(()))) => continue,
                Some(Ok(Err(error))) => error.to_string(),
                Some(Err(_)) => "loopprobe failed (a bug)".to_owned(),
                None => "the session's end does not wait longer".to_owned(),
            };
            let path = path.display().to_string();
            say::warning(&format!(
                "no snapshot in {}: {}",
                clean(&path),
                clean(&failed)
            ));
        }
    }
}

impl Sink for Taker {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        match event {
            Event::Session(head) => {
                self.head = Some(head.clone());
                check(&self.folder);
            }
            Event::Summary(_) => self.finish(),
            Event::Interval(_) => {}
            _ => {
                self.recent.push_back(event.clone());
                if self.recent.len() > MOST_EVENTS {
                    self.recent.pop_front();
                    self.dropped += 1;
                }
            }
        }
        Ok(())
    }

    fn snapshot(&mut self, now: &Summary) -> Option<String> {
        Some(match self.begin(now) {
            Ok(path) => format!("a snapshot is written to {}", path.display()),
            Err(error) => format!("no snapshot: {error:#}"),
        })
    }
}

/// Adds what is read of the process, and writes it all.
fn write(
    mut snapshot: Snapshot,
    cache: Cache,
    debug_files: &[PathBuf],
    mut file: OutputFile,
) -> io::Result<()> {
    snapshot.command = About::read(snapshot.pid).command;
    snapshot.system = System::of(snapshot.pid);
    snapshot.tasks = tasks(snapshot.pid, debug_files, cache).map_err(|error| error.to_string());
    file.write_all(&super::plain_text(&snapshot, COLUMNS)?)?;
    file.flush()
}

/// Says at the beginning that files cannot be written, by what the session may do from then on.
fn check(folder: &Path) {
    let here = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    if let Err(error) = nix::unistd::eaccess(here, nix::unistd::AccessFlags::W_OK) {
        let here = here.display().to_string();
        say::warning(&format!(
            "--snapshot-on cannot write to {}: {error}; name another folder with --snapshot-to",
            clean(&here)
        ));
    }
}

/// `loopprobe-1234-20261128T101736Z.txt`.
fn file_name(pid: u32, unix_ns: u64) -> String {
    let time = rfc3339(unix_ns);
    let digits = |c: &char| c.is_ascii_digit() || *c == 'T';
    let seconds = time.split('.').next().unwrap_or_default();
    let time: String = seconds.chars().filter(digits).take(15).collect();
    format!("loopprobe-{pid}-{time}Z.txt")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_named_by_its_process_and_time() {
        let name = file_name(1234, 1_795_861_056_123_456_789);
        assert_eq!(name, "loopprobe-1234-20261128T101736Z.txt");
        assert_eq!(file_name(1, 0), "loopprobe-1-19700101T000000Z.txt");
    }
}
