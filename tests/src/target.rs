//! A running target program.

use std::io::Write;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::lines::Lines;
use crate::matrix::{Build, privileged_loopprobe, target};
use crate::truth::Poll;
use crate::unprivileged;

/// How long a target may take to start. Generous: the machine may be busy with builds.
const START: Duration = Duration::from_secs(30);
/// How long a target may take for its work.
const WORK: Duration = Duration::from_mins(2);

/// A target program that is up; killed by its pid when dropped.
pub struct Target {
    child: Child,
    input: ChildStdin,
    lines: Lines,
    /// What it said before it was ready.
    pub head: Vec<Value>,
}

impl Target {
    /// Starts `program` and waits until it says that it is ready.
    ///
    /// # Errors
    /// When it cannot be started or does not become ready.
    pub fn start(program: &Path, args: &[&str]) -> Result<Target> {
        Self::spawn(Command::new(program).args(args))
    }

    /// The program `busy`, for two minutes; what `how` and `rounds` are, it says itself.
    ///
    /// # Errors
    /// When it cannot be built or started.
    pub fn busy(how: &str, rounds: u32) -> Result<Target> {
        let program = target(Build::DEFAULT, "busy")?;
        let rounds = rounds.to_string();
        Self::start(&program, &[how, "--millis", "120000", "--rounds", &rounds])
    }

    /// The same for a prepared command.
    ///
    /// # Errors
    /// When it cannot be started or does not become ready.
    pub fn spawn(command: &mut Command) -> Result<Target> {
        if unprivileged::wanted() {
            command.uid(unprivileged::USER).gid(unprivileged::USER);
        }
        Self::spawn_as_is(command)
    }

    /// The same for a command that begins as the user of the test: it makes what only root can, and
    /// becomes the target's user itself.
    ///
    /// # Errors
    /// When it cannot be started or does not become ready.
    pub fn spawn_as_is(command: &mut Command) -> Result<Target> {
        // A target does not wait for minutes while loopprobe is built.
        privileged_loopprobe()?;
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {command:?}"))?;
        let input = child.stdin.take().context("standard input is a pipe")?;
        let lines = Lines::of(child.stdout.take().context("standard output is a pipe")?);
        let mut target = Target {
            child,
            input,
            lines,
            head: Vec::new(),
        };
        target.head = target.until("ready", START)?;
        Ok(target)
    }

    /// A shell's `command` in a pid and a mount namespace of its own, as the target's user, after
    /// what the shell does as root (`prepare`). The process of [`pid`](Self::pid) is outside; the
    /// command is its child.
    ///
    /// # Errors
    /// When it cannot be started or does not become ready.
    pub fn in_namespaces(prepare: &str, command: &str) -> Result<Target> {
        let user = if unprivileged::wanted() {
            unprivileged::prefix()
        } else {
            String::new()
        };
        let script = format!("{prepare}exec {user} {command}");
        Self::spawn_as_is(Command::new("unshare").args([
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "sh",
            "-c",
            &script,
        ]))
    }

    /// The first process that it has started.
    ///
    /// # Errors
    /// When it starts none within five seconds.
    pub fn child(&self) -> Result<u32> {
        let (pid, deadline) = (self.pid(), Instant::now() + Duration::from_secs(5));
        loop {
            let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
            if let Some(child) = children.split_ascii_whitespace().next() {
                return Ok(child.parse()?);
            }
            ensure!(Instant::now() < deadline, "{pid} has no child");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Its process id, as this process sees it.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a line to its standard input.
    ///
    /// # Errors
    /// When it no longer listens.
    pub fn send(&mut self, line: &str) -> Result<()> {
        writeln!(self.input, "{line}")?;
        self.input.flush()?;
        Ok(())
    }

    /// Its lines up to and including the first of type `kind`.
    ///
    /// # Errors
    /// When none comes in time.
    pub fn until(&self, kind: &str, timeout: Duration) -> Result<Vec<Value>> {
        self.lines
            .until(kind, timeout)?
            .iter()
            .map(|line| serde_json::from_str(line).with_context(|| line.clone()))
            .collect()
    }

    /// What it says up to the end of its truth.
    ///
    /// # Errors
    /// When that does not come.
    pub fn truth(&self) -> Result<Vec<Poll>> {
        let mut polls = Vec::new();
        for line in self.until("end", WORK)? {
            match line["type"].as_str() {
                Some("poll") => polls.push(serde_json::from_value(line)?),
                Some("end") if line["dropped"] != 0 => {
                    bail!("the target kept no full record: {line}")
                }
                _ => {}
            }
        }
        Ok(polls)
    }

    /// Lets it work, and returns its truth.
    ///
    /// # Errors
    /// When that does not come.
    pub fn work(&mut self) -> Result<Vec<Poll>> {
        self.send("go")?;
        self.truth()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        wait(&mut self.child, WORK)
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// When that cannot be told.
    pub fn is_alive(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for the end of `child`.
///
/// # Errors
/// When it does not end within `timeout`.
pub fn wait(child: &mut Child, timeout: Duration) -> Result<ExitStatus> {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() > deadline {
            bail!("process {} does not end", child.id());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
