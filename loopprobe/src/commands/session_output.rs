use std::{
    io::{self, BufWriter, Write},
    time::Duration,
};

use super::{
    columns::columns_of,
    fail_over::FailOver,
    output_file::OutputFile,
    progress::{Progress, SCANNING},
};
use crate::{
    cli::{Exit, Format, GlobalArgs, ObserveArgs, OutputArgs},
    model::{Event, Live, Sink, Sinks},
    report::{JsonSink, TextOptions, TextSink},
};

/// Everything that a session's events go to: the report, the views that were asked for, and the watch over the limit.
pub struct SessionOutput {
    sinks: Sinks,
    fail_over: FailOver,
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
    pub fn open(
        output: &OutputArgs,
        observe: &ObserveArgs,
        global: &GlobalArgs,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            sinks: only(report(output, global)?),
            progress: !global.quiet,
            fail_over: FailOver::new(observe.fail_over),
            waiting: Some(Progress::new(global, SCANNING)),
        })
    }

    /// For a session that is only played back.
    ///
    /// # Errors
    ///
    /// If a file cannot be created.
    pub fn for_recording(output: &OutputArgs, global: &GlobalArgs) -> anyhow::Result<Self> {
        Ok(Self {
            sinks: only(report(output, global)?),
            progress: !global.quiet,
            fail_over: FailOver::new(None),
            waiting: None,
        })
    }

    /// Only the views, and a recording: no report.
    pub fn without_report(observe: &ObserveArgs, global: &GlobalArgs) -> Self {
        Self {
            sinks: Sinks::default(),
            progress: !global.quiet,
            fail_over: FailOver::new(observe.fail_over),
            waiting: Some(Progress::new(global, SCANNING)),
        }
    }

    /// Views beside the report.
    pub fn add(&mut self, sinks: Vec<Box<dyn Sink>>) {
        self.sinks.extend(sinks);
    }

    /// Whether nobody takes events any more.
    pub fn is_closed(&self) -> bool {
        self.sinks.is_empty()
    }

    /// How the session ended, but for errors.
    pub fn exit(&self) -> Exit {
        if self.fail_over.passed() {
            Exit::OverLimit
        } else {
            Exit::Done
        }
    }
}

impl Sink for SessionOutput {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        self.waiting = None;
        let ending = matches!(event, Event::Summary(_));
        // What the text report has to say is long on the terminal when this begins to show.
        let _writing = Progress::shown_if(self.progress && ending, "writing the report");
        self.fail_over.event(event)?;
        self.sinks.event(event)
    }

    fn live_every(&self) -> Option<Duration> {
        self.sinks.live_every()
    }

    fn live(&mut self, live: &Live) -> io::Result<()> {
        self.sinks.live(live)
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
    let options = TextOptions {
        quiet: global.quiet,
        verbose: output.verbose,
        columns: None,
    };
    Ok(match (&output.output, output.format) {
        (None, Format::Json) => Box::new(JsonSink::new(io::stdout().lock())),
        (None, Format::Text) => {
            let columns = columns_of(&io::stdout());
            Box::new(TextSink::new(
                coloured_stdout(),
                TextOptions { columns, ..options },
            ))
        }
        (Some(path), Format::Json) => Box::new(JsonSink::new(OutputFile::create(path)?)),
        (Some(path), Format::Text) => {
            let file: Box<dyn Write> = Box::new(OutputFile::create(path)?);
            let plain = BufWriter::new(anstream::StripStream::new(file));
            Box::new(TextSink::new(plain, options))
        }
    })
}

/// Buffered whole events, with colours where they belong.
fn coloured_stdout() -> impl Write {
    BufWriter::new(anstream::stdout())
}
