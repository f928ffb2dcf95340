//! A run of loopprobe.

use std::collections::HashSet;
use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use loopprobe::model::{
    Event, Finding, FindingKind, Interval, LongPoll, Notice, Session as Head, Summary,
};

use crate::lines::Lines;
use crate::{matrix, target};

/// How long loopprobe may take to attach, or to end: many times what it needs on an idle machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// `loopprobe attach` at work; killed by its pid when dropped.
pub struct Session {
    child: Child,
    lines: Lines,
    errors: Option<JoinHandle<String>>,
    /// Its first line.
    pub head: Head,
    seen: Vec<Event>,
}

/// All that a session said.
#[derive(Debug)]
pub struct Report {
    /// Its first line.
    pub head: Head,
    /// Long polls, in the order of their reports.
    pub polls: Vec<LongPoll>,
    /// Remarks.
    pub notices: Vec<Notice>,
    /// Values over time.
    pub intervals: Vec<Interval>,
    /// What was found wrong with the loop as a whole.
    pub findings: Vec<Finding>,
    /// Its last line.
    pub summary: Summary,
    /// Exit status.
    pub status: ExitStatus,
    /// Standard error.
    pub errors: String,
}

impl Report {
    /// Whether a remark contains `text`.
    pub fn remarks(&self, text: &str) -> bool {
        self.notices
            .iter()
            .any(|notice| notice.message.contains(text))
    }

    /// Long polls that ended, each once.
    pub fn ended(&self) -> Vec<&LongPoll> {
        self.polls.iter().filter(|poll| poll.ended).collect()
    }
}

impl Session {
    /// Attaches to `pid` and waits until loopprobe says that it observes.
    ///
    /// # Errors
    /// When it does not get that far.
    pub fn attach(pid: u32, args: &[&str]) -> Result<Session> {
        let mut command = Command::new(matrix::loopprobe()?);
        command.args(["attach", "--pid", &pid.to_string(), "--format", "json"]);
        Self::spawn(command.args(args))
    }

    /// The same for a prepared command that writes JSON to standard output.
    ///
    /// # Errors
    /// When it does not get that far.
    pub fn spawn(command: &mut Command) -> Result<Session> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {command:?}"))?;
        let lines = Lines::of(child.stdout.take().context("standard output is a pipe")?);
        let mut errors = child.stderr.take().context("standard error is a pipe")?;
        let errors = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = errors.read_to_string(&mut text);
            text
        });
        let mut guard = Killed(Some(child));
        let first = match lines.until("session", PATIENCE) {
            Ok(lines) => lines,
            Err(error) => {
                drop(guard);
                return Err(error.context(errors.join().unwrap_or_default()));
            }
        };
        ensure!(
            first.len() == 1,
            "the head is not the first line: {first:?}"
        );
        let Event::Session(head) = parse(&first[0])? else {
            anyhow::bail!("not a head: {}", first[0]);
        };
        let child = guard.0.take().context("not killed yet")?;
        Ok(Session {
            child,
            lines,
            errors: Some(errors),
            head,
            seen: Vec::new(),
        })
    }

    /// loopprobe's own process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends `signal` to loopprobe.
    pub fn signal(&self, signal: i32) {
        // SAFETY: the pid is our own child's, which has not been waited for.
        unsafe { libc::kill(self.child.id() as i32, signal) };
    }

    /// Reads no more of what loopprobe says, so that it has to wait with its output, or reads on.
    pub fn hold(&self, hold: bool) {
        self.lines.hold(hold);
    }

    /// The next long poll; the final report has it too.
    ///
    /// # Errors
    /// When none comes within `timeout`.
    pub fn next_poll(&mut self, timeout: Duration) -> Result<LongPoll> {
        for line in self.lines.until("long_poll", timeout)? {
            self.seen.push(parse(&line)?);
        }
        match self.seen.last() {
            Some(Event::LongPoll(poll)) => Ok(poll.clone()),
            other => anyhow::bail!("not a long poll: {other:?}"),
        }
    }

    /// The next finding of a kind; the final report has it too.
    ///
    /// # Errors
    /// When none comes within `timeout`.
    pub fn next_finding(&mut self, kind: FindingKind, timeout: Duration) -> Result<Finding> {
        let until = Instant::now() + timeout;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            for line in self.lines.until("finding", left)? {
                self.seen.push(parse(&line)?);
            }
            match self.seen.last() {
                Some(Event::Finding(found)) if found.kind == kind => return Ok(found.clone()),
                _ => {}
            }
        }
    }

    /// The next interval at whose end so many tasks live; the final report has it too.
    ///
    /// # Errors
    /// When none comes within `timeout`.
    pub fn next_interval(&mut self, active: u64, timeout: Duration) -> Result<Interval> {
        let until = Instant::now() + timeout;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            for line in self.lines.until("interval", left)? {
                self.seen.push(parse(&line)?);
            }
            match self.seen.last() {
                Some(Event::Interval(found)) if found.active_tasks == Some(active) => {
                    return Ok(found.clone());
                }
                _ => {}
            }
        }
    }

    /// Interrupts loopprobe, as Ctrl-C does, and reads the rest.
    ///
    /// # Errors
    /// When it does not end, or does not end with a summary.
    pub fn interrupt(self) -> Result<Report> {
        self.signal(libc::SIGINT);
        self.finish()
    }

    /// Waits for loopprobe's own end and reads the rest.
    ///
    /// # Errors
    /// When it does not end, or does not end with a summary.
    pub fn finish(mut self) -> Result<Report> {
        let (mut polls, mut notices, mut summary) = (Vec::new(), Vec::new(), None);
        let (mut intervals, mut findings) = (Vec::new(), Vec::new());
        for line in self.lines.rest(PATIENCE)? {
            self.seen.push(parse(&line)?);
        }
        for event in std::mem::take(&mut self.seen) {
            ensure!(
                summary.is_none(),
                "something follows the summary: {event:?}"
            );
            adds_up(&event)?;
            match event {
                Event::Session(_) => anyhow::bail!("a second head: {event:?}"),
                Event::LongPoll(poll) => polls.push(poll),
                Event::Notice(notice) => notices.push(notice),
                Event::Interval(interval) => intervals.push(interval),
                Event::Finding(finding) => findings.push(finding),
                Event::Summary(last) => summary = Some(last),
            }
        }
        let status = target::wait(&mut self.child, PATIENCE)?;
        let errors = self
            .errors
            .take()
            .and_then(|thread| thread.join().ok())
            .unwrap_or_default();
        let summary = summary.with_context(|| format!("no summary ({status}): {errors}"))?;
        is_counted(&polls, &summary)?;
        Ok(Report {
            head: self.head.clone(),
            polls,
            notices,
            intervals,
            findings,
            summary,
            status,
            errors,
        })
    }
}

/// Where a poll's time went adds up to its duration, and the long polls of the task types to all
/// long polls.
fn adds_up(event: &Event) -> Result<()> {
    match event {
        Event::LongPoll(poll) => {
            let split = poll.split.unwrap_or_default();
            let sum = split.on_cpu_ns + split.runnable_ns + split.blocked_ns;
            ensure!(
                poll.split.is_none() || sum == poll.duration_ns,
                "the parts do not add up: {poll:?}"
            );
        }
        Event::Summary(summary) => {
            let long: u64 = summary.tasks.iter().map(|task| task.long).sum();
            ensure!(
                long == summary.long_polls,
                "{long} long polls by task type: {summary:?}"
            );
        }
        Event::Session(_) | Event::Notice(_) | Event::Interval(_) | Event::Finding(_) => {}
    }
    Ok(())
}

/// Every poll that was reported is in the summary. It may have more: of those still open, only old
/// ones are reported.
fn is_counted(polls: &[LongPoll], summary: &Summary) -> Result<()> {
    let reported: HashSet<(u32, u64, bool)> = polls
        .iter()
        .map(|poll| (poll.tid, poll.start_ns, poll.since_before_attach))
        .collect();
    ensure!(
        reported.len() as u64 <= summary.long_polls,
        "{} polls were reported: {summary:?}",
        reported.len()
    );
    Ok(())
}

fn parse(line: &str) -> Result<Event> {
    serde_json::from_str(line).with_context(|| line.to_owned())
}

struct Killed(Option<Child>);

impl Drop for Killed {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
