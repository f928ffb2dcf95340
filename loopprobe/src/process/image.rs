//! Opens the very file behind a mapping, even one that was replaced, without being led astray.

use std::{
    fs::{self, File, Metadata},
    io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::{FileTypeExt as _, MetadataExt as _},
    },
    path::PathBuf,
};

use nix::{
    fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2},
    sys::stat::Mode,
};

use super::Mapping;

/// The file behind a mapping, opened so that it is that file and no other.
#[derive(Debug)]
pub struct ImageFile {
    /// The open file. Another process can still rewrite it: read it with care.
    pub file: File,
    /// Its state when it was opened.
    pub metadata: Metadata,
}

/// Why the file behind a mapping could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Neither way to it worked.
    #[error(
        "cannot open {} of process {pid}: {by_path} (and through map_files: {by_map}){}",
        path.display(),
        advice(.by_path)
    )]
    Unreachable {
        /// The process.
        pid: u32,
        /// The file's path in its mount namespace.
        path: PathBuf,
        /// What `/proc/PID/root` gave.
        by_path: io::Error,
        /// What `/proc/PID/map_files` gave.
        by_map: io::Error,
    },
    /// The path leads to another file than the one that is mapped.
    #[error(
        "{} is no longer the file that process {pid} has mapped (replaced since it started?); \
         reaching the old one needs root or CAP_CHECKPOINT_RESTORE",
        path.display()
    )]
    Replaced {
        /// The process.
        pid: u32,
        /// The file's path in its mount namespace.
        path: PathBuf,
    },
    /// It is a device or the like: reading it could have effects.
    #[error("{} of process {pid} is not a regular file", path.display())]
    NotRegular {
        /// The process.
        pid: u32,
        /// The file's path in its mount namespace.
        path: PathBuf,
    },
}

fn advice(by_path: &io::Error) -> &'static str {
    match by_path.kind() {
        io::ErrorKind::PermissionDenied => {
            "; files that not everybody may read need root (sudo) or CAP_DAC_READ_SEARCH"
        }
        _ => "",
    }
}

impl ImageFile {
    /// Opens the file behind a mapping.
    ///
    /// `/proc/PID/map_files` leads to the very file even if it was removed or replaced, but needs
    /// CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE (`proc_map_files_get_link`, `fs/proc/base.c`, Linux
    /// 5.9 and later). Otherwise the path is followed below `/proc/PID/root`, without symbolic
    /// links, so that the target cannot lead a privileged reader to a file of its choice, and the
    /// inode must be the mapped one.
    ///
    /// # Errors
    ///
    /// [`ImageError`], each variant naming process and path.
    pub fn open(pid: u32, mapping: &Mapping) -> Result<Self, ImageError> {
        let by_map = match open_map_file(pid, mapping) {
            Ok(file) => return Self::checked(pid, mapping, file),
            Err(error) => error,
        };
        match open_below_root(pid, mapping) {
            Ok(file) => Self::same_inode(pid, mapping, file),
            Err(by_path) => Err(ImageError::Unreachable {
                pid,
                path: mapping.path.clone(),
                by_path,
                by_map,
            }),
        }
    }

    /// A path that the kernel, and this process, can open the file by, wherever it lies.
    pub fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.file.as_raw_fd()).into()
    }

    fn same_inode(pid: u32, mapping: &Mapping, file: File) -> Result<Self, ImageError> {
        let image = Self::checked(pid, mapping, file)?;
        if image.metadata.ino() != mapping.inode {
            return Err(ImageError::Replaced {
                pid,
                path: mapping.path.clone(),
            });
        }
        Ok(image)
    }

    fn checked(pid: u32, mapping: &Mapping, file: File) -> Result<Self, ImageError> {
        match file.metadata() {
            Ok(metadata) if metadata.is_file() => Ok(Self { file, metadata }),
            _ => Err(ImageError::NotRegular {
                pid,
                path: mapping.path.clone(),
            }),
        }
    }
}

fn open_map_file(pid: u32, mapping: &Mapping) -> io::Result<File> {
    let path = format!(
        "/proc/{pid}/map_files/{:x}-{:x}",
        mapping.start, mapping.end
    );
    // The link itself is the kernel's; what it leads to may be a device with effects on opening.
    let kind = fs::metadata(&path)?.file_type();
    if kind.is_char_device() || kind.is_block_device() || kind.is_fifo() {
        return Err(io::Error::other("a device is mapped there"));
    }
    File::open(path)
}

fn open_below_root(pid: u32, mapping: &Mapping) -> io::Result<File> {
    let root = open(
        format!("/proc/{pid}/root").as_str(),
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_SYMLINKS);
    let file: OwnedFd = openat2(root, &mapping.path, how)?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Maps;

    fn own_text() -> Mapping {
        let exe = std::env::current_exe().unwrap();
        let maps = Maps::read(std::process::id()).unwrap();
        maps.images()
            .find(|mapping| mapping.path == exe)
            .unwrap()
            .clone()
    }

    #[test]
    fn both_ways_lead_to_the_mapped_file() {
        let (pid, mapping) = (std::process::id(), own_text());
        let expected = fs::metadata(std::env::current_exe().unwrap())
            .unwrap()
            .ino();
        let opened = ImageFile::open(pid, &mapping).unwrap();
        assert_eq!(opened.metadata.ino(), expected);
        assert_eq!(fs::metadata(opened.path()).unwrap().ino(), expected);
        let by_path = open_below_root(pid, &mapping).unwrap();
        assert_eq!(by_path.metadata().unwrap().ino(), expected);
    }

    #[test]
    fn another_file_under_the_same_path_is_refused() {
        let mut mapping = own_text();
        let file = open_below_root(std::process::id(), &mapping).unwrap();
        mapping.inode += 1;
        let error = ImageFile::same_inode(std::process::id(), &mapping, file).unwrap_err();
        assert!(matches!(error, ImageError::Replaced { .. }), "{error}");
    }

    #[test]
    fn symbolic_links_are_not_followed() {
        let mut mapping = own_text();
        mapping.path = "/proc/self/exe".into();
        let error = open_below_root(std::process::id(), &mapping).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ELOOP));
    }
}
