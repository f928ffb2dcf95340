//! The guest's file system: an archive that the kernel unpacks into memory.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
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

    /// Adds a program to `/bin`.
    pub(super) fn program(&mut self, program: &Path) -> anyhow::Result<()> {
        let name = program.file_name().context("a program has a name")?;
        self.file(&Path::new("/bin").join(name), &read(program)?)?;
        Ok(())
    }

    /// Adds the libraries that a program of this machine needs.
    pub(super) fn libraries(&mut self, program: &Path) -> anyhow::Result<()> {
        for library in libraries(program)? {
            self.file(&library, &read(&library)?)?;
        }
        Ok(())
    }

    /// Adds the C library that a compiler for another processor links programs with.
    pub(super) fn foreign_library(&mut self, compiler: &str, loader: &str) -> anyhow::Result<()> {
        let loader = Path::new(loader);
        let folder = loader.parent().context("a loader lies in a folder")?;
        let loader = loader.file_name().unwrap_or_default();
        for name in ["libc.so.6", "libm.so.6", "libgcc_s.so.1"]
            .map(OsStr::new)
            .into_iter()
            .chain([loader])
        {
            let mut option = OsString::from("-print-file-name=");
            option.push(name);
            let output = Command::new(compiler).arg(option).output();
            let said = output.with_context(|| format!("{compiler} does not run"))?;
            let path = String::from_utf8_lossy(&said.stdout).trim().to_owned();
            self.file(&folder.join(name), &read(Path::new(&path))?)?;
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

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| path.display().to_string())
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
