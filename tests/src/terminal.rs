//! A real terminal, in a tmux server of its own.

use std::{
    fs,
    process::Command,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use crate::privileges;

/// Many times what anything takes on an idle machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// A terminal of 80 columns and 24 rows with a shell in it.
#[derive(Debug)]
pub struct Terminal(String);

impl Terminal {
    /// Opens a terminal; `None` where tmux is not installed, after saying so aloud.
    ///
    /// # Errors
    ///
    /// In CI without tmux; if it does not work.
    pub fn open() -> Result<Option<Self>> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        if Command::new("tmux").arg("-V").output().is_err() {
            privileges::skip("tmux is not installed: apt-get install tmux")?;
            return Ok(None);
        }
        let number = NEXT.fetch_add(1, Relaxed);
        let terminal = Self(format!("loopprobe-{}-{number}", std::process::id()));
        let new = ["-f", "/dev/null", "new-session", "-d"];
        terminal.tmux(&[&new[..], &["-x", "80", "-y", "24", "sh"]].concat())?;
        Ok(Some(terminal))
    }

    fn tmux(&self, args: &[&str]) -> Result<String> {
        let output = Command::new("tmux")
            .arg("-L")
            .arg(&self.0)
            .args(args)
            .output()?;
        ensure!(output.status.success(), "tmux {args:?}: {output:?}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Types a line.
    ///
    /// # Errors
    ///
    /// If tmux fails.
    pub fn run(&self, line: &str) -> Result<()> {
        self.keys(&[line, "Enter"])
    }

    /// Presses keys, by tmux's names of them.
    ///
    /// # Errors
    ///
    /// If tmux fails.
    pub fn keys(&self, keys: &[&str]) -> Result<()> {
        self.tmux(&[&["send-keys"], keys].concat())?;
        Ok(())
    }

    /// What is on the screen.
    ///
    /// # Errors
    ///
    /// If tmux fails.
    pub fn screen(&self) -> Result<String> {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Waits until the screen shows a text.
    ///
    /// # Errors
    ///
    /// If that takes too long; the error has the screen.
    pub fn shows(&self, text: &str) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let screen = self.screen()?;
            if screen.contains(text) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "no `{text}`:\n{screen}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// What tmux knows of the terminal, by the name of the variable.
    ///
    /// # Errors
    ///
    /// If tmux fails.
    pub fn state(&self, variable: &str) -> Result<String> {
        let value = self.tmux(&["display-message", "-p", &format!("#{{{variable}}}")])?;
        Ok(value.trim().to_owned())
    }

    /// The process that the shell has started.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn child(&self) -> Result<i32> {
        let shell: u32 = self.state("pane_pid")?.parse()?;
        let children = fs::read_to_string(format!("/proc/{shell}/task/{shell}/children"))?;
        Ok(children
            .split_whitespace()
            .next()
            .context("no child")?
            .parse()?)
    }

    /// Waits until the shell has the terminal back, as it gave it away: ordinary screen, cursor,
    /// lines, echo.
    ///
    /// # Errors
    ///
    /// If anything is different.
    pub fn is_clean(&self) -> Result<()> {
        ensure!(
            self.state("alternate_on")? == "0",
            "on the alternate screen"
        );
        ensure!(self.state("cursor_flag")? == "1", "without a cursor");
        self.run("stty -a")?;
        self.shows(" icanon")?;
        self.shows(" echo ")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.tmux(&["kill-server"]);
    }
}
