//! One thing that was looked at: good, worth knowing or bad, and what mends it.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};

use crate::report::clean;

/// One thing that was looked at.
#[derive(Debug)]
pub(super) struct Check {
    name: &'static str,
    finding: String,
    verdict: Verdict,
}

#[derive(Debug)]
enum Verdict {
    Good,
    /// Worth knowing; loopprobe works all the same.
    Note(Option<String>),
    /// loopprobe does not work; with what to do.
    Bad(String),
}

impl Check {
    /// It is as it should be.
    pub(super) fn good(name: &'static str, finding: impl Into<String>) -> Self {
        Self::new(name, finding, Verdict::Good)
    }

    /// Worth knowing.
    pub(super) fn note(name: &'static str, finding: impl Into<String>) -> Self {
        Self::new(name, finding, Verdict::Note(None))
    }

    /// Worth knowing, and there is something that one can do.
    pub(super) fn advice(
        name: &'static str,
        finding: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self::new(name, finding, Verdict::Note(Some(mend.into())))
    }

    /// loopprobe cannot work; with the command that mends it, or why none can.
    pub(super) fn bad(
        name: &'static str,
        finding: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self::new(name, finding, Verdict::Bad(mend.into()))
    }

    fn new(name: &'static str, finding: impl Into<String>, verdict: Verdict) -> Self {
        Self {
            name,
            finding: finding.into(),
            verdict,
        }
    }

    /// Whether loopprobe cannot work.
    pub(super) fn is_bad(&self) -> bool {
        matches!(self.verdict, Verdict::Bad(_))
    }

    /// Writes it: one line, and a second one with the way out.
    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let (word, colour) = match &self.verdict {
            Verdict::Good => ("ok  ", AnsiColor::Green),
            Verdict::Note(_) => ("note", AnsiColor::Yellow),
            Verdict::Bad(_) => ("FAIL", AnsiColor::Red),
        };
        let style: Style = colour.on_default().bold();
        writeln!(
            out,
            "{style}{word}{style:#}  {:<24}  {}",
            self.name,
            clean(&self.finding)
        )?;
        match &self.verdict {
            Verdict::Bad(mend) | Verdict::Note(Some(mend)) => {
                writeln!(out, "{:32}-> {}", "", clean(mend))
            }
            Verdict::Good | Verdict::Note(None) => Ok(()),
        }
    }
}
