//! Lines for systemd's journal: `<4>` before a line is its priority (sd-daemon(3)).

use std::{
    env,
    io::{self, Write},
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    time::Duration,
};

use nix::sys::stat::fstat;

use crate::model::{Event, Live, Sink};

/// How important a line is, as in syslog(3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// Something failed.
    Error = 3,
    /// Something may be wrong; a long poll.
    Warning = 4,
    /// Something that matters, and is right.
    Notice = 5,
    /// Everything else.
    Info = 6,
    /// Details.
    Debug = 7,
}

impl std::fmt::Display for Priority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "<{}>", *self as u8)
    }
}

impl From<log::Level> for Priority {
    fn from(level: log::Level) -> Self {
        match level {
            log::Level::Error => Self::Error,
            log::Level::Warn => Self::Warning,
            log::Level::Info => Self::Info,
            log::Level::Debug | log::Level::Trace => Self::Debug,
        }
    }
}

/// Whether an output goes to the journal: systemd names the stream's device and inode in
/// `JOURNAL_STREAM` (systemd.exec(5)).
pub fn is_journal(output: &impl AsFd) -> bool {
    env::var("JOURNAL_STREAM").is_ok_and(|stream| is_stream(output, &stream))
}

fn is_stream(output: &impl AsFd, stream: &str) -> bool {
    let named = || {
        let (device, inode) = stream.split_once(':')?;
        Some((device.parse::<u64>().ok()?, inode.parse::<u64>().ok()?))
    };
    let is = fstat(output).ok().map(|stat| (stat.st_dev, stat.st_ino));
    is.is_some() && is == named()
}

/// The priority of the lines that are written next. Clones set the same one.
#[derive(Clone, Debug)]
struct Next(Arc<AtomicU8>);

/// Writes each line with a priority before it.
#[derive(Debug)]
pub struct JournalLines<W> {
    out: W,
    next: Next,
    at_start: bool,
}

impl<W: Write> JournalLines<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> Self {
        Self {
            out,
            next: Next(Arc::new(AtomicU8::new(Priority::Info as u8))),
            at_start: true,
        }
    }
}

impl<W: Write> Write for JournalLines<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.at_start {
                write!(self.out, "<{}>", self.next.0.load(Relaxed))?;
            }
            self.out.write_all(line)?;
            self.at_start = line.ends_with(b"\n");
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A report whose lines have the priority of their event.
#[derive(Debug)]
pub struct JournalSink<S> {
    report: S,
    next: Next,
}

impl<S: Sink> JournalSink<S> {
    /// The report that `make` makes of an output.
    pub fn new<W: Write>(out: W, make: impl FnOnce(JournalLines<W>) -> S) -> Self {
        let lines = JournalLines::new(out);
        Self {
            next: lines.next.clone(),
            report: make(lines),
        }
    }
}

impl<S: Sink> Sink for JournalSink<S> {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        let priority = match event {
            Event::LongPoll(_) | Event::Finding(_) => Priority::Warning,
            Event::Notice(_) => Priority::Notice,
            Event::Session(_) | Event::Interval(_) | Event::Summary(_) => Priority::Info,
        };
        self.next.0.store(priority as u8, Relaxed);
        self.report.event(event)
    }

    fn live_every(&self) -> Option<Duration> {
        self.report.live_every()
    }

    fn live(&mut self, live: &Live) -> io::Result<()> {
        self.report.live(live)
    }

    fn dropped(&self) -> u64 {
        self.report.dropped()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn each_line_has_its_priority() {
        let mut lines = JournalLines::new(Vec::new());
        lines.write_all(b"a\nb").unwrap();
        lines.next.0.store(Priority::Warning as u8, Relaxed);
        lines.write_all(b"c\nd\n").unwrap();
        assert_eq!(lines.out, b"<6>a\n<6>bc\n<4>d\n");
    }

    #[test]
    fn another_stream_is_not_the_journal() {
        let file = File::open("/dev/null").unwrap();
        let stat = fstat(&file).unwrap();
        assert!(is_stream(
            &file,
            &format!("{}:{}", stat.st_dev, stat.st_ino)
        ));
        for other in [
            format!("{}:{}", stat.st_dev, stat.st_ino + 1),
            "x".into(),
            String::new(),
        ] {
            assert!(!is_stream(&file, &other), "{other}");
        }
    }
}
