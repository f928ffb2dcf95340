//! What is remembered of files gives what the files give, and nothing else is ever used.

mod entries;
mod files;
mod sessions;
mod trust;

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Result, ensure};
use loopprobe_tests::{
    folder::Folder,
    matrix::{self, Build},
};

/// A file that was changed more recently is not remembered by its state.
const SETTLED: Duration = Duration::from_millis(3200);
/// `--log-level debug` says so.
const USED: &str = "cache: knows the names of";

/// A cache folder of a test's own.
struct Cache(Folder);

impl Cache {
    fn new() -> Result<Self> {
        let folder = Folder::new("cache")?;
        fs::set_permissions(folder.path(), Permissions::from_mode(0o700))?;
        Ok(Self(folder))
    }

    /// A command that uses it.
    fn command(&self) -> Result<Command> {
        let mut command = Command::new(matrix::loopprobe()?);
        command
            .env_remove("LOOPPROBE_NO_CACHE")
            .env("XDG_CACHE_HOME", self.0.path());
        Ok(command)
    }

    /// What `inspect` says of a file, and whether it knew its names.
    fn inspect(&self, file: &Path) -> Result<(String, bool)> {
        let mut command = self.command()?;
        command.args(["inspect", "--json", "--log-level", "debug"]);
        let output = command.arg(file).output()?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{errors}");
        let used = errors.contains(USED);
        Ok((String::from_utf8(output.stdout)?, used))
    }

    fn folder(&self) -> PathBuf {
        self.0.path().join("loopprobe")
    }

    /// All entries.
    fn entries(&self) -> Result<Vec<PathBuf>> {
        let listed = fs::read_dir(self.folder())?.map(|entry| Ok(entry?.path()));
        listed.collect()
    }
}

/// The same without remembering anything.
fn truth(file: &Path) -> Result<String> {
    let mut command = Command::new(matrix::loopprobe()?);
    let output = command
        .args(["inspect", "--json", "--no-cache"])
        .arg(file)
        .output()?;
    ensure!(output.status.success(), "{output:?}");
    Ok(String::from_utf8(output.stdout)?)
}

/// Asks once more and wants the truth, from memory or not.
fn expect(cache: &Cache, file: &Path, used: bool) -> Result<()> {
    let (said, was_used) = cache.inspect(file)?;
    ensure!(was_used == used, "{}: used {was_used}", file.display());
    ensure!(
        said == truth(file)?,
        "{}: not what is there",
        file.display()
    );
    Ok(())
}

/// A copy of a target that nothing else changes.
fn copy(folder: &Folder, build: Build) -> Result<PathBuf> {
    let path = folder.path().join("zoo");
    fs::copy(matrix::target(build, "zoo")?, &path)?;
    Ok(path)
}

fn stripped(folder: &Folder) -> Result<PathBuf> {
    copy(folder, Build::DEFAULT.stripped())
}
