//! The standard output of a child process, line by line, with deadlines.

use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Lines that a thread of their own reads as they come.
pub struct Lines {
    lines: Receiver<String>,
    held: Arc<AtomicBool>,
}

impl Lines {
    /// Starts reading.
    pub fn of(output: impl Read + Send + 'static) -> Self {
        let (sender, lines) = channel();
        let held = Arc::new(AtomicBool::new(false));
        let holds = Arc::clone(&held);
        std::thread::spawn(move || {
            let lines = BufReader::new(output).lines().map_while(Result::ok);
            for line in lines {
                while holds.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(10));
                }
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Lines { lines, held }
    }

    /// Reads no more, so that the pipe fills and its writer waits, or reads again.
    pub fn hold(&self, hold: bool) {
        self.held.store(hold, Ordering::Relaxed);
    }

    /// The next line; `None` at the end of the output.
    ///
    /// # Errors
    /// When nothing comes before `deadline`.
    pub fn next(&self, deadline: Instant) -> Result<Option<String>> {
        let wait = deadline.saturating_duration_since(Instant::now());
        match self.lines.recv_timeout(wait) {
            Ok(line) => Ok(Some(line)),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => bail!("no line came in time"),
        }
    }

    /// All lines up to and including the first of JSON type `kind`.
    ///
    /// # Errors
    /// When it does not come within `timeout`, or the output ends first.
    pub fn until(&self, kind: &str, timeout: Duration) -> Result<Vec<String>> {
        let deadline = Instant::now() + timeout;
        let mut lines = Vec::new();
        let mark = format!(r#"{{"type":"{kind}""#);
        loop {
            let Some(line) = self.next(deadline)? else {
                bail!("the output ended without a line of type {kind}: {lines:?}");
            };
            let found = line.starts_with(&mark);
            lines.push(line);
            if found {
                return Ok(lines);
            }
        }
    }

    /// All lines up to the end of the output.
    ///
    /// # Errors
    /// When it does not end within `timeout`.
    pub fn rest(&self, timeout: Duration) -> Result<Vec<String>> {
        let deadline = Instant::now() + timeout;
        std::iter::from_fn(|| self.next(deadline).transpose()).collect()
    }
}
