//! Writes events to disk on a thread of its own, no block older than a quarter second.

use std::{
    io::{self, Write},
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    thread::{self, JoinHandle},
    time::Instant,
};

use crate::model::{Event, LongPoll, Sink};

use super::block::{self, FLUSH_INTERVAL, FULL, MAGIC, MAX_RAW, VERSION};

/// Lines that may wait for the disk before the session waits for it too.
const QUEUE: usize = 1024;

/// Writes a session as a recording. A thread of its own does the writing, so that a block is never
/// older than [`FLUSH_INTERVAL`] even when nothing more happens.
pub struct Recorder {
    lines: Option<SyncSender<Vec<u8>>>,
    writer: Option<JoinHandle<io::Result<()>>>,
}

impl Recorder {
    /// Begins a recording: the head is written at once.
    ///
    /// # Errors
    ///
    /// Whatever writing gives.
    pub fn new(mut out: impl Write + Send + 'static) -> io::Result<Self> {
        out.write_all(&[&MAGIC[..], &VERSION.to_le_bytes()].concat())?;
        out.flush()?;
        let (lines, queue) = sync_channel(QUEUE);
        let writer = thread::Builder::new()
            .name("recorder".to_owned())
            .spawn(move || write_blocks(&queue, out))?;
        Ok(Self {
            lines: Some(lines),
            writer: Some(writer),
        })
    }

    fn send(&mut self, line: Vec<u8>) -> io::Result<()> {
        let Some(lines) = &self.lines else {
            return Ok(());
        };
        match lines.send(line) {
            Ok(()) => Ok(()),
            Err(_) => self.finish(),
        }
    }

    /// Writes what is left. After a failure this gives the error, once.
    fn finish(&mut self) -> io::Result<()> {
        self.lines = None;
        match self.writer.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(io::Error::other("the recorder's thread panicked")),
        }
    }
}

impl Sink for Recorder {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        self.send(line_of(event)?)?;
        match event {
            Event::Summary(_) => self.finish(),
            _ => Ok(()),
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // An error here has no one to go to: the session is being torn down for another one.
        let _ = self.finish();
    }
}

fn write_blocks(queue: &Receiver<Vec<u8>>, mut out: impl Write) -> io::Result<()> {
    let mut raw = Vec::new();
    let mut since = Instant::now();
    loop {
        let line = queue.recv_timeout(FLUSH_INTERVAL);
        let ended = matches!(line, Err(RecvTimeoutError::Disconnected));
        if let Ok(line) = line {
            if raw.len() + line.len() > MAX_RAW {
                flush(&mut raw, &mut out)?;
            }
            if raw.is_empty() {
                since = Instant::now();
            }
            raw.extend_from_slice(&line);
        }
        if ended || raw.len() >= FULL || since.elapsed() >= FLUSH_INTERVAL {
            flush(&mut raw, &mut out)?;
        }
        if ended {
            return Ok(());
        }
    }
}

fn flush(raw: &mut Vec<u8>, out: &mut impl Write) -> io::Result<()> {
    if raw.is_empty() {
        return Ok(());
    }
    block::write(raw, out)?;
    raw.clear();
    out.flush()
}

fn line_of(event: &Event) -> io::Result<Vec<u8>> {
    let line = json_line(event)?;
    match event {
        Event::LongPoll(poll) if line.len() > MAX_RAW => trimmed(poll),
        _ if line.len() > MAX_RAW => Err(io::Error::other("an event is too large to record")),
        _ => Ok(line),
    }
}

/// A poll with so many stacks that they fit no block: keeps the longest ones.
fn trimmed(poll: &LongPoll) -> io::Result<Vec<u8>> {
    let mut poll = poll.clone();
    poll.stacks.sort_by_key(|stack| std::cmp::Reverse(stack.ns));
    loop {
        poll.stacks.truncate(poll.stacks.len() / 2);
        let line = json_line(&Event::LongPoll(poll.clone()))?;
        if line.len() <= MAX_RAW {
            return Ok(line);
        }
        if poll.stacks.is_empty() {
            return Err(io::Error::other("a poll is too large to record"));
        }
    }
}

fn json_line(event: &Event) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    Ok(line)
}
