//! The reports of many processes in one output: each line says of which.

use std::{
    io::{self, Write},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use anstream::adapter::strip_bytes;
use serde::Serialize;

use super::super::output_file::OutputFile;
use crate::{
    cli::{Format, GlobalArgs, OutputArgs},
    export::systemd::{JournalSink, is_journal},
    model::{Event, Placement, Sink},
    report::{TextOptions, TextSink, clean},
};

/// Where all reports go.
#[derive(Clone)]
pub(super) struct SharedOutput {
    out: Arc<Mutex<Box<dyn Write + Send>>>,
    format: Format,
    options: TextOptions,
    in_journal: bool,
    /// Whether colours have no place in it.
    is_plain: bool,
}

/// Whose report it is, in each line of its JSON.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Target {
    /// The process.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// Where the machine has put it.
    #[serde(flatten)]
    pub placement: Placement,
}

impl SharedOutput {
    /// Standard output, or the file that was asked for.
    ///
    /// # Errors
    ///
    /// If it cannot be created.
    pub(super) fn open(args: &OutputArgs, global: &GlobalArgs) -> anyhow::Result<Self> {
        let to_stdout = args
            .output
            .as_deref()
            .is_none_or(|path| path == Path::new("-"));
        let out: Box<dyn Write + Send> = match &args.output {
            Some(path) => Box::new(OutputFile::create(path)?),
            None => Box::new(anstream::stdout()),
        };
        Ok(Self {
            out: Arc::new(Mutex::new(out)),
            format: args.format,
            options: TextOptions {
                quiet: global.quiet,
                verbose: args.verbose,
                columns: None,
            },
            in_journal: to_stdout && is_journal(&io::stdout()),
            is_plain: args.output.is_some(),
        })
    }

    /// The report of one process.
    pub(super) fn report(&self, target: &Target) -> Box<dyn Sink> {
        let label = format!("{}[{}] ", clean(&target.name), target.pid);
        let lines = Lines {
            out: Arc::clone(&self.out),
            label: label.into_bytes(),
            is_plain: self.is_plain,
            waiting: Vec::new(),
        };
        match self.format {
            Format::Json => Box::new(LabelledJson {
                target: target.clone(),
                out: Arc::clone(&self.out),
            }),
            Format::Text if self.in_journal => Box::new(JournalSink::new(lines, |lines| {
                TextSink::new(lines, self.options)
            })),
            Format::Text => Box::new(TextSink::new(lines, self.options)),
        }
    }
}

fn write(out: &Mutex<Box<dyn Write + Send>>, bytes: &[u8]) -> io::Result<()> {
    let mut out = out.lock().unwrap_or_else(PoisonError::into_inner);
    out.write_all(bytes)?;
    out.flush()
}

/// Keeps what is written until it is flushed, and then writes its lines in one piece, each with a
/// label.
struct Lines {
    out: Arc<Mutex<Box<dyn Write + Send>>>,
    label: Vec<u8>,
    is_plain: bool,
    waiting: Vec<u8>,
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.waiting.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut text = labelled(&self.waiting, &self.label);
        self.waiting.clear();
        if self.is_plain {
            text = strip_bytes(&text).into_vec();
        }
        write(&self.out, &text)
    }
}

/// The journal's priority, `<4>`, stays before all else.
fn labelled(text: &[u8], label: &[u8]) -> Vec<u8> {
    let mut labelled = Vec::with_capacity(text.len() + text.len() / 2);
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let priority = match line {
            [b'<', b'0'..=b'7', b'>', ..] => 3,
            _ => 0,
        };
        let (priority, rest) = line.split_at(priority);
        labelled.extend_from_slice(priority);
        if !rest.trim_ascii().is_empty() {
            labelled.extend_from_slice(label);
        }
        labelled.extend_from_slice(rest);
    }
    labelled
}

struct LabelledJson {
    target: Target,
    out: Arc<Mutex<Box<dyn Write + Send>>>,
}

#[derive(Serialize)]
struct Line<'a> {
    target: &'a Target,
    #[serde(flatten)]
    event: &'a Event,
}

impl Sink for LabelledJson {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        let target = &self.target;
        let mut line = serde_json::to_vec(&Line { target, event })?;
        line.push(b'\n');
        write(&self.out, &line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Notice;

    #[test]
    fn each_line_says_whose_it_is() {
        let text = labelled(b"a\n\n<4>b\n", b"api[7] ");
        assert_eq!(text, b"api[7] a\n\n<4>api[7] b\n");
    }

    #[test]
    fn a_line_of_json_is_an_event_with_its_target() {
        let target = Target {
            pid: 7,
            name: "api".into(),
            placement: Placement {
                unit: Some("api.service".into()),
                ..Placement::default()
            },
        };
        let event = Event::Notice(Notice::default());
        let line = serde_json::to_string(&Line {
            target: &target,
            event: &event,
        });
        let line = line.unwrap();
        assert!(
            line.starts_with(
                r#"{"target":{"pid":7,"name":"api","unit":"api.service"},"type":"notice","#
            ),
            "{line}"
        );
        assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), event);
    }
}
