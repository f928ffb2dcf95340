//! Programs that want every CPU.

use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};

/// Two spinning processes for each CPU; ended when dropped.
pub struct Hogs(Vec<Child>);

impl Hogs {
    /// Starts them.
    ///
    /// # Errors
    /// When a shell cannot be started.
    pub fn start() -> Result<Self> {
        let cpus = std::thread::available_parallelism()?.get();
        let mut hogs = Self(Vec::new());
        for _ in 0..2 * cpus {
            let hog = Command::new("sh")
                .args(["-c", "while :; do :; done"])
                .stdin(Stdio::null())
                .spawn()
                .context("starting a shell")?;
            hogs.0.push(hog);
        }
        Ok(hogs)
    }
}

impl Drop for Hogs {
    fn drop(&mut self) {
        for hog in &mut self.0 {
            let _ = hog.kill();
            let _ = hog.wait();
        }
    }
}
