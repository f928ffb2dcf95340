//! The sinks of one session, opened before it begins so that a bad path shows early.

use std::{
    io::{self, BufWriter, Write},
    time::Duration,
};

use super::{
    columns::columns_of,
    gate::Gate,
    output_file::OutputFile,
    progress::{Progress, SCANNING},
    until_polled::UntilPolled,
};
use crate::{
    cli::{Exit, Format, GlobalArgs, OutputArgs},
    export::systemd::{JournalSink, is_journal},
    model::{Event, Live, Sink, Sinks, Summary},
    report::{JsonSink, TextOptions, TextSink},
};

/// Everything that a session's events go to: the report, the views that were asked for, and the
/// gate.
pub(super) struct SessionOutput {
    sinks: Sinks,
    gate: Gate,
    /// Whether what takes long says so.
    progress: bool,
    /// Until the session begins.
    waiting: Option<Progress>,
}

impl SessionOutput {
    /// Opens what was asked for, so that a path that cannot be written is known before the session.
    ///
    /// # Errors
    ///
    /// If a file cannot be created.
    pub(super) fn open(
        output: &OutputArgs,
        gate: Gate,
        global: &GlobalArgs,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            sinks: only(report(output, global)?),
            progress: !global.quiet,
            gate,
            waiting: Some(Progress::new(global, SCANNING)),
        })
    }

    /// For a program whose standard output is somebody's, as a test's is cargo's: the report goes
    /// to standard error, and says nothing of a program that polls no task.
    ///
    /// # Errors
    ///
    /// If a file cannot be created.
    pub(super) fn beside_program(
        output: &OutputArgs,
        gate: Gate,
        global: &GlobalArgs,
    ) -> anyhow::Result<Self> {
        if output.output.is_some() {
            return Self::open(output, gate, global);
        }
        let options = text_options(output, global, columns_of(&io::stderr()));
        let report: Box<dyn Sink> = match output.format {
            Format::Json => Box::new(JsonSink::new(io::stderr())),
            Format::Text => {
                let stderr = BufWriter::new(anstream::stderr());
                text_report(stderr, is_journal(&io::stderr()), options)
            }
        };
        Ok(Self {
            sinks: only(Box::new(UntilPolled::new(report))),
            ..Self::without_report(gate, global)
        })
    }

    /// For a session that is only played back.
    ///
    /// # Errors
    ///
    /// If a file cannot be created.
    pub(super) fn for_recording(output: &OutputArgs, global: &GlobalArgs) -> anyhow::Result<Self> {
        Ok(Self {
            sinks: only(report(output, global)?),
            progress: !global.quiet,
            gate: Gate::default(),
            waiting: None,
        })
    }

    /// Only the views, and a recording: no report.
    pub(super) fn without_report(gate: Gate, global: &GlobalArgs) -> Self {
        Self {
            sinks: Sinks::default(),
            progress: !global.quiet,
            gate,
            waiting: Some(Progress::new(global, SCANNING)),
        }
    }

    /// Views beside the report.
    pub(super) fn add(&mut self, sinks: Vec<Box<dyn Sink>>) {
        self.sinks.extend(sinks);
    }

    /// Whether nobody takes events any more.
    pub(super) fn is_closed(&self) -> bool {
        self.sinks.is_empty()
    }

    /// How the session ended, but for errors. Says on standard error why it failed.
    pub(super) fn exit(&self, global: &GlobalArgs) -> Exit {
        self.gate.conclude(global)
    }
}

impl Sink for SessionOutput {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        self.waiting = None;
        let ending = matches!(event, Event::Summary(_));
        // What the text report has to say is long on the terminal when this begins to show.
        let _writing = Progress::shown_if(self.progress && ending, "writing the report");
        let judged = self.gate.event(event);
        self.sinks.event(event)?;
        judged
    }

    fn live_every(&self) -> Option<Duration> {
        self.sinks.live_every()
    }

    fn live(&mut self, live: &Live) -> io::Result<()> {
        self.sinks.live(live)
    }

    fn snapshot(&mut self, now: &Summary) -> Option<String> {
        self.sinks.snapshot(now)
    }

    fn dropped(&self) -> u64 {
        self.sinks.dropped()
    }
}

fn only(sink: Box<dyn Sink>) -> Sinks {
    let mut sinks = Sinks::default();
    sinks.add(sink);
    sinks
}

fn report(output: &OutputArgs, global: &GlobalArgs) -> anyhow::Result<Box<dyn Sink>> {
    Ok(match (&output.output, output.format) {
        (None, Format::Json) => Box::new(JsonSink::new(io::stdout().lock())),
        (None, Format::Text) => {
            let options = text_options(output, global, columns_of(&io::stdout()));
            text_report(coloured_stdout(), is_journal(&io::stdout()), options)
        }
        (Some(path), Format::Json) => Box::new(JsonSink::new(OutputFile::create(path)?)),
        (Some(path), Format::Text) => {
            let file: Box<dyn Write> = Box::new(OutputFile::create(path)?);
            let plain = BufWriter::new(anstream::StripStream::new(file));
            Box::new(TextSink::new(plain, text_options(output, global, None)))
        }
    })
}

fn text_report(out: impl Write + 'static, in_journal: bool, options: TextOptions) -> Box<dyn Sink> {
    if in_journal {
        Box::new(JournalSink::new(out, |out| TextSink::new(out, options)))
    } else {
        Box::new(TextSink::new(out, options))
    }
}

fn text_options(output: &OutputArgs, global: &GlobalArgs, columns: Option<usize>) -> TextOptions {
    TextOptions {
        quiet: global.quiet,
        verbose: output.verbose,
        columns,
    }
}

/// Buffered whole events, with colours where they belong.
fn coloured_stdout() -> impl Write {
    BufWriter::new(anstream::stdout())
}
