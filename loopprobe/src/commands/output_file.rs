//! A file the user named, created so that traps in shared folders do not catch root.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::fd::AsFd as _,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};

use super::invoking_user;

/// Anybody may create entries in such a folder, so what lies there may be a trap; as in one of
/// another user.
const WORLD_WRITABLE: u32 = 0o002;

/// What stands for standard output where a file is asked for.
pub(super) const STDOUT: &str = "-";

/// A file that the user asked for, or standard output for `-`. Its errors name it.
#[derive(Debug)]
pub(super) struct OutputFile {
    file: File,
    path: PathBuf,
}

impl OutputFile {
    /// Creates or empties a file. Under sudo a new one belongs to the invoking user. In a folder
    /// where others may create entries, links are not followed and other people's files not written
    /// to.
    ///
    /// # Errors
    ///
    /// A sentence that names the path.
    pub(super) fn create(path: &Path) -> anyhow::Result<Self> {
        if path == Path::new(STDOUT) {
            return Self::stdout();
        }
        let shared = in_shared_folder(path);
        // Nor is a pipe waited for.
        let no_follow = if shared {
            libc::O_NOFOLLOW | libc::O_NONBLOCK
        } else {
            0
        };
        let mut options = OpenOptions::new();
        options.write(true).custom_flags(no_follow);
        let created = options.clone().create_new(true).open(path);
        let file = match created {
            Ok(file) => {
                give_to_invoking_user(&file);
                file
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                open_existing(&options, path, shared)?
            }
            Err(error) => {
                return Err(error).with_context(|| format!("cannot create {}", path.display()));
            }
        };
        Ok(Self {
            file,
            path: path.to_owned(),
        })
    }

    fn stdout() -> anyhow::Result<Self> {
        let stdout = io::stdout().as_fd().try_clone_to_owned();
        Ok(Self {
            file: stdout.context("cannot write to standard output")?.into(),
            path: "standard output".into(),
        })
    }

    /// Creates a file that is not there yet.
    ///
    /// # Errors
    ///
    /// A sentence that names the path, also when there is one already.
    pub(super) fn create_new(path: &Path) -> anyhow::Result<Self> {
        ensure!(
            path.symlink_metadata().is_err(),
            "{} exists already: name another file, or remove it",
            path.display()
        );
        Self::create(path)
    }

    fn named<T>(&self, result: io::Result<T>) -> io::Result<T> {
        result.map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", self.path.display()))
        })
    }
}

impl Write for OutputFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let written = self.file.write(buf);
        self.named(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.file.flush();
        self.named(flushed)
    }
}

fn open_existing(options: &OpenOptions, path: &Path, shared: bool) -> anyhow::Result<File> {
    let file = options
        .open(path)
        .map_err(|error| match error.raw_os_error() {
            Some(libc::ELOOP) => anyhow::anyhow!(
                "{} is a symbolic link in a folder that others can write to; name another file",
                path.display()
            ),
            _ => anyhow::Error::from(error).context(format!("cannot write {}", path.display())),
        })?;
    let metadata = file.metadata()?;
    if shared {
        ensure!(
            is_own(metadata.uid()) && metadata.is_file() && metadata.nlink() == 1,
            "{} belongs to another user, or has other names or another kind than a file, and lies in a folder that \
             others can write to; name another file",
            path.display()
        );
    }
    if metadata.is_file() {
        file.set_len(0)
            .with_context(|| format!("cannot empty {}", path.display()))?;
    }
    Ok(file)
}

fn in_shared_folder(path: &Path) -> bool {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    folder.metadata().is_ok_and(|metadata| {
        metadata.mode() & WORLD_WRITABLE != 0 || !(is_own(metadata.uid()) || metadata.uid() == 0)
    })
}

fn is_own(uid: u32) -> bool {
    uid == nix::unistd::geteuid().as_raw()
        || invoking_user::ids().is_some_and(|(user, _)| user == uid)
}

fn give_to_invoking_user(file: &File) {
    if let Some((uid, gid)) = invoking_user::ids() {
        // A file system without owners refuses; the file is as good there.
        let _ = fchown(file, Some(uid), Some(gid));
    }
}
