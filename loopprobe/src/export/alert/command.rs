//! Runs a user's shell command with an alert's JSON on its input, and kills it when late.

use std::{
    io::{self, Write as _},
    os::unix::process::CommandExt as _,
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

use super::event::Told;

/// How often a command that runs is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// A command that is run for an event: by `sh -c`, with the event's JSON on its standard input and
/// the main fields in its environment. Its own output goes to loopprobe's standard error.
#[derive(Clone, Debug)]
pub struct OnAlert {
    /// For the shell.
    pub command: String,
    /// How long it may take; then it and what it has started is killed.
    pub timeout: Duration,
    /// More for its environment: under sudo, the invoking user's own.
    pub environment: Vec<(String, String)>,
}

impl OnAlert {
    /// Runs it to its end, or until there is a `hurry`.
    pub(super) fn run(&self, event: &Told, hurry: &AtomicBool) -> Result<(), String> {
        let failed = |error: io::Error| format!("`{}`: {error}", self.command);
        let mut json = serde_json::to_vec(event).map_err(|error| error.to_string())?;
        json.push(b'\n');
        let mut child = Command::new("/bin/sh")
            .args(["-c", &self.command])
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .envs(event.environment())
            .stdin(Stdio::piped())
            .stdout(io::stderr())
            // Its own group, so that all of it can be ended, and the terminal's Ctrl-C does not end
            // it.
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let until = Instant::now() + self.timeout;
        // One that does not read is not waited for.
        if let Some(mut input) = child.stdin.take() {
            thread::spawn(move || {
                let _ = input.write_all(&json);
            });
        }
        let ended = wait(&mut child, until, hurry).map_err(failed)?;
        if ended.is_none() {
            kill_group(&child);
            child.wait().map_err(failed)?;
        }
        match ended {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(format!("`{}`: {status}", self.command)),
            None => Err(format!(
                "`{}`: killed, as it had not ended within {:?} or by the end of the session",
                self.command, self.timeout
            )),
        }
    }
}

fn wait(child: &mut Child, until: Instant, hurry: &AtomicBool) -> io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= until || hurry.load(Ordering::Relaxed) {
            return Ok(None);
        }
        thread::sleep(LOOK);
    }
}

fn kill_group(child: &Child) {
    if let Ok(group) = i32::try_from(child.id()) {
        // It may have ended meanwhile.
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
}
