//! Reads events back from an untrusted file, and says what lies behind the last good one.

use std::{
    collections::VecDeque,
    io::{self, Read},
};

use thiserror::Error;

use crate::model::{Event, Session};

use super::block::{self, Block, Damage, MAGIC, VERSION};

/// Why a file cannot be read as a recording.
#[derive(Debug, Error)]
pub enum RecordingError {
    /// Reading failed.
    #[error("cannot read")]
    Io(#[from] io::Error),
    /// Another kind of file.
    #[error("is not a loopprobe recording: {0}")]
    Foreign(&'static str),
    /// Another version of the format.
    #[error(
        "is a loopprobe recording of format {found}, and this loopprobe reads format {VERSION}: use the version that wrote it"
    )]
    Version {
        /// The file's.
        found: u32,
    },
    /// Another version of the events inside.
    #[error(
        "holds events of schema {found}, and this loopprobe reads schema {}: use loopprobe {writer}, which wrote it",
        Session::SCHEMA
    )]
    Schema {
        /// The file's.
        found: u32,
        /// The loopprobe that wrote it.
        writer: String,
    },
}

/// What lies behind the last event that could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tail {
    /// What is wrong there.
    pub damage: Damage,
    /// Where the damage begins, in bytes.
    pub offset: u64,
    /// How many bytes were not read.
    pub dropped: u64,
}

/// Reads a recording, event by event. The file is not trusted: memory is bounded by the largest
/// block.
pub struct Reader<R> {
    input: R,
    offset: u64,
    events: VecDeque<Event>,
    tail: Option<Tail>,
    done: bool,
}

impl<R: Read> Reader<R> {
    /// Opens a recording.
    ///
    /// # Errors
    ///
    /// When it is none, or of another version.
    pub fn new(mut input: R) -> Result<Self, RecordingError> {
        let mut head = Vec::new();
        let len = MAGIC.len() + 4;
        input.by_ref().take(len as u64).read_to_end(&mut head)?;
        let Some((magic, version)) = head.split_at_checked(MAGIC.len()) else {
            return Err(RecordingError::Foreign(kind_of(&head)));
        };
        if magic != MAGIC {
            return Err(RecordingError::Foreign(kind_of(&head)));
        }
        let Ok(version) = <[u8; 4]>::try_from(version) else {
            return Err(RecordingError::Foreign("it ends within its head"));
        };
        match u32::from_le_bytes(version) {
            VERSION => Ok(Self {
                input,
                offset: len as u64,
                events: VecDeque::new(),
                tail: None,
                done: false,
            }),
            found => Err(RecordingError::Version { found }),
        }
    }

    /// What could not be read at the end, once all events have been.
    pub fn tail(&self) -> Option<Tail> {
        self.tail
    }

    fn fill(&mut self) -> Result<(), RecordingError> {
        let mut input = Counted {
            input: &mut self.input,
            count: 0,
        };
        let block = block::read(&mut input)?;
        let read = input.count;
        let damage = match block {
            Block::End => {
                self.done = true;
                return Ok(());
            }
            Block::Whole(raw) => match parse(&raw) {
                Some(events) => {
                    self.offset += read;
                    self.events.extend(events);
                    return Ok(());
                }
                None => Damage::Content,
            },
            Block::Damaged(damage) => damage,
        };
        self.done = true;
        self.tail = Some(Tail {
            damage,
            offset: self.offset,
            dropped: read + io::copy(&mut self.input, &mut io::sink())?,
        });
        Ok(())
    }
}

impl<R: Read> Iterator for Reader<R> {
    type Item = Result<Event, RecordingError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.events.is_empty() && !self.done {
            if let Err(error) = self.fill() {
                self.done = true;
                return Some(Err(error));
            }
        }
        let event = self.events.pop_front()?;
        if let Event::Session(session) = &event
            && session.schema != Session::SCHEMA
        {
            self.done = true;
            self.events.clear();
            return Some(Err(RecordingError::Schema {
                found: session.schema,
                writer: session.version.clone(),
            }));
        }
        Some(Ok(event))
    }
}

struct Counted<'a, R> {
    input: &'a mut R,
    count: u64,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.input.read(buffer)?;
        self.count += len as u64;
        Ok(len)
    }
}

fn parse(raw: &[u8]) -> Option<Vec<Event>> {
    raw.split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).ok())
        .collect()
}

/// What people hand over by mistake.
fn kind_of(head: &[u8]) -> &'static str {
    match head {
        [] => "it is empty",
        [b'{', ..] => "it looks like JSON",
        [0x1f, 0x8b, ..] => "it is compressed with gzip",
        [0x7f, b'E', b'L', b'F', ..] => "it is an executable",
        [b'P', b'E', b'R', b'F', ..] => "it is a recording of perf",
        [b'<', ..] => "it looks like SVG or HTML",
        _ => "it begins otherwise",
    }
}
