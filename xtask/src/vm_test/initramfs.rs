//! The guest's file system: an archive that the kernel unpacks into memory.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};
use cpio::newc::{self, Builder};

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;

/// Files that lie, in the guest, at the paths given.
pub(super) struct Initramfs {
    archive: File,
    folders: BTreeSet<PathBuf>,
    files: BTreeSet<PathBuf>,
}

impl Initramfs {
    /// Begins one.
    pub(super) fn create(path: &Path) -> anyhow::Result<Self> {
        let archive = File::create(path).with_context(|| path.display().to_string())?;
        Ok(Self {
            archive,
            folders: BTreeSet::new(),
            files: BTreeSet::new(),
        })
    }

    /// Adds a folder, and those that it lies in.
    pub(super) fn folder(&mut self, path: &Path) -> io::Result<()> {
        if let Some(parent) = path.parent().filter(|parent| *parent != Path::new("/"))
            && !self.folders.contains(parent)
        {
            self.folder(parent)?;
        }
        if self.folders.insert(path.to_owned()) {
            self.entry(path, DIRECTORY, &[])?;
        }
        Ok(())
    }

    /// Adds a program or library.
    pub(super) fn file(&mut self, path: &Path, content: &[u8]) -> io::Result<()> {
        if !self.files.insert(path.to_owned()) {
            return Ok(());
        }
        if let Some(parent) = path.parent().filter(|parent| *parent != Path::new("/")) {
            self.folder(parent)?;
        }
        self.entry(path, PROGRAM, content)
    }

    /// Adds a program of this machine to `/bin`, and the libraries that it needs.
    pub(super) fn program(&mut self, program: &Path) -> anyhow::Result<()> {
        let read = |path: &Path| fs::read(path).with_context(|| path.display().to_string());
        let name = program.file_name().context("a program has a name")?;
        self.file(&Path::new("/bin").join(name), &read(program)?)?;
        for library in libraries(program)? {
            self.file(&library, &read(&library)?)?;
        }
        Ok(())
    }

    /// Ends it.
    pub(super) fn finish(self) -> io::Result<()> {
        newc::trailer(self.archive)?.sync_all()
    }

    fn entry(&mut self, path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
        let name = path.strip_prefix("/").unwrap_or(path).to_string_lossy();
        let size = u32::try_from(content.len()).map_err(io::Error::other)?;
        let number = (self.folders.len() + self.files.len()) as u32;
        let mut entry = Builder::new(&name)
            .ino(number)
            .mode(mode)
            .write(&self.archive, size);
        entry.write_all(content)?;
        entry.finish().map(drop)
    }
}

/// The shared libraries of a program, and its loader.
fn libraries(program: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success() && !text.contains("not found"),
        "ldd {}: {text}",
        program.display()
    );
    // `libc.so.6 => /lib/libc.so.6 (0x7f00)`, or `/lib64/ld-linux-x86-64.so.2 (0x7f00)`; the vDSO
    // has no path.
    let path = |line: &str| {
        let at = line.find('/')?;
        Some(PathBuf::from(line[at..].split(' ').next()?))
    };
    Ok(text.lines().filter_map(path).collect())
}
