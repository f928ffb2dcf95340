//! Folders of a test's own.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use anyhow::{Result, ensure};

use crate::unprivileged;

/// A folder that loopprobe and its targets can write to, removed when dropped.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Creates it below the folder for temporary files; `name` says what for.
    ///
    /// # Errors
    ///
    /// If it cannot be created.
    pub fn new(name: &str) -> io::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let (process, number) = (std::process::id(), NEXT.fetch_add(1, Relaxed));
        let path = std::env::temp_dir().join(format!("loopprobe-{name}-{process}-{number}"));
        fs::create_dir_all(&path)?;
        unprivileged::give(&path)?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The path of a file in it.
    pub fn file(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A file system of a few pages, in a folder. Wants root.
#[derive(Debug)]
pub struct SmallDisk(Folder);

impl SmallDisk {
    /// Mounts one that holds `kib` KiB.
    ///
    /// # Errors
    ///
    /// If it cannot be mounted.
    pub fn mount(name: &str, kib: usize) -> Result<Self> {
        let folder = Folder::new(name)?;
        let mounted = Command::new("mount")
            .args([
                "-t",
                "tmpfs",
                "-o",
                &format!("size={kib}k"),
                "loopprobe-test",
            ])
            .arg(folder.path())
            .status()?;
        ensure!(mounted.success(), "mount: {mounted}");
        unprivileged::give(folder.path())?;
        Ok(Self(folder))
    }

    /// The path of a file on it.
    pub fn file(&self, name: &str) -> String {
        self.0.file(name)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}
