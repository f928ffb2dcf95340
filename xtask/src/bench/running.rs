//! A program beside the bench, read line by line, and ended by its id when dropped.

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead as _, BufReader},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use crate::privileged;

/// How long a program may take to say what is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// A program that runs beside the bench; ended by its id when dropped.
pub(super) struct Running {
    child: Child,
    name: String,
    input: Option<ChildStdin>,
    lines: mpsc::Receiver<String>,
}

impl Running {
    /// Starts it, with its input and output at the bench's ends.
    pub(super) fn start(command: &mut Command) -> anyhow::Result<Self> {
        let name = format!("{command:?}");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot run {name}"))?;
        let output = child.stdout.take().context("the output is a pipe")?;
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self {
            input: child.stdin.take(),
            child,
            name,
            lines,
        })
    }

    /// The next line.
    pub(super) fn line(&self) -> anyhow::Result<String> {
        let line = self.lines.recv_timeout(PATIENCE);
        line.with_context(|| format!("{} says nothing", self.name))
    }

    /// Drops what it has said so far.
    pub(super) fn skip_lines(&self) {
        while self.lines.try_recv().is_ok() {}
    }

    /// The next JSON object of this type.
    pub(super) fn next(&self, kind: &str) -> anyhow::Result<Value> {
        loop {
            let line = self.line()?;
            let value: Value = serde_json::from_str(&line).with_context(|| line.clone())?;
            if value["type"] == kind {
                return Ok(value);
            }
        }
    }

    /// Its id, or that of the program `name` which it runs (sudo does).
    pub(super) fn pid_of(&self, name: &str) -> anyhow::Result<u32> {
        let mut pid = self.child.id();
        let deadline = Instant::now() + PATIENCE;
        loop {
            if fs::read_to_string(format!("/proc/{pid}/comm"))?.trim_end() == name {
                return Ok(pid);
            }
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
            if let Some(child) = children.split(' ').next().and_then(|c| c.parse().ok()) {
                pid = child;
            }
            ensure!(
                Instant::now() < deadline,
                "{} does not run {name}",
                self.name
            );
            thread::sleep(Duration::from_millis(1));
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Interrupts the program `name`, as Ctrl-C would, and waits for its end.
    pub(super) fn interrupt(mut self, name: &str) -> anyhow::Result<()> {
        let pid = self.pid_of(name)?;
        privileged::command("kill")
            .args(["-INT", &pid.to_string()])
            .status()?;
        self.wait()
    }

    /// Ends its input and waits for its end.
    pub(super) fn end_input(mut self) -> anyhow::Result<()> {
        self.input = None;
        self.wait()
    }

    fn wait(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                bail!("{} does not end", self.name);
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Whether a program is on PATH.
pub(super) fn is_installed(program: impl AsRef<OsStr>) -> bool {
    let mut command = Command::new(program);
    command.arg("--version");
    let output = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    output.is_ok()
}
