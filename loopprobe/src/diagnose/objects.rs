//! Resolves a system call's arguments from `/proc` and memory, while the call still lasts.

use std::{
    fs,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
};

use super::{
    Object, RawSyscall, descriptors,
    object::{LockedFile, Pipe, Socket},
    sockets,
    stat::Stat,
    syscall::Waits,
};
use crate::{elf::ProcAddr, unwind::Memory};

/// `PATH_MAX` of Linux.
const MAX_PATH: usize = 4096;
/// The largest socket address, `struct sockaddr_un`.
const MAX_SOCKADDR: usize = 110;
/// More of the descriptors that a `poll` is given are not looked at.
const MAX_POLLED: usize = 16;
/// `FUTEX_TID_MASK`: of a priority-inheriting futex, the bits that hold its owner
/// (`include/uapi/linux/futex.h`).
const FUTEX_TID_MASK: u32 = 0x3fff_ffff;

/// Finds out what system calls of a process are about, while they last: the numbers mean something
/// else soon after.
#[derive(Clone, Copy, Debug)]
pub struct Objects {
    pid: u32,
    memory: Memory,
}

/// The file that a descriptor stood for while a thread waited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SeenFile {
    /// Its mode, as `stat` gives it; 0 if it is not known.
    pub mode: u32,
    /// Its inode.
    pub inode: u64,
}

impl SeenFile {
    fn of(data: &fs::Metadata) -> Self {
        Self {
            mode: data.mode(),
            inode: data.ino(),
        }
    }

    /// Whether both are of one kind and, if they have no path, the same. File systems in layers
    /// (overlayfs) tell other inodes than the kernel's own.
    fn is_like(&self, other: &Self) -> bool {
        let kind = self.mode & libc::S_IFMT;
        let is_alone = matches!(kind, libc::S_IFIFO | libc::S_IFSOCK);
        kind == other.mode & libc::S_IFMT && (!is_alone || self.inode == other.inode)
    }
}

impl Objects {
    /// For the calls of one process.
    pub fn of(pid: u32) -> Self {
        Self {
            pid,
            memory: Memory::of(pid),
        }
    }

    /// As [`Objects::resolve`], of a call that is over: its descriptor may have been closed since,
    /// and stand for something else. What the kernel side saw behind the first argument decides.
    pub fn resolve_seen(&self, syscall: &RawSyscall, seen: SeenFile) -> Option<Object> {
        let fd = syscall.args[0] as u32;
        let is_same = || {
            let now = fs::metadata(format!("/proc/{}/fd/{fd}", self.pid));
            now.is_ok_and(|now| SeenFile::of(&now).is_like(&seen))
        };
        match syscall.waits()? {
            Waits::Descriptor | Waits::Close | Waits::FileLock | Waits::Sync | Waits::Socket
                if seen.mode != 0 && !is_same() =>
            {
                self.gone(syscall, seen)
            }
            _ => self.resolve(syscall),
        }
    }

    /// What is still known of a descriptor that has been closed.
    fn gone(&self, syscall: &RawSyscall, seen: SeenFile) -> Option<Object> {
        let (fd, reads) = (syscall.args[0] as u32, syscall.reads());
        match seen.mode & libc::S_IFMT {
            libc::S_IFREG if syscall.waits() == Some(Waits::FileLock) => {
                Some(Object::Locked(LockedFile {
                    inode: seen.inode,
                    ..LockedFile::default()
                }))
            }
            libc::S_IFIFO => Some(Object::Pipe(Pipe {
                fd: Some(fd),
                inode: seen.inode,
                reads,
                peers: Vec::new(),
                child: false,
            })),
            libc::S_IFSOCK => Some(Object::Socket(Socket {
                fd: Some(fd),
                ..sockets::socket(self.pid, seen.inode)
            })),
            _ => None,
        }
    }

    /// What a call that a thread is in, or was in until just now, is about.
    pub fn resolve(&self, syscall: &RawSyscall) -> Option<Object> {
        // File descriptors are `int`; the registers' upper halves can hold anything.
        let first = syscall.args[0] as u32;
        match syscall.waits()? {
            Waits::Descriptor | Waits::Close | Waits::Sync => {
                self.descriptor(first, syscall.reads())
            }
            Waits::FileLock => self.locked(first),
            Waits::Socket => self.socket(syscall),
            Waits::Path(index) => self.path(syscall, index),
            Waits::Poll => self.polled(syscall),
            Waits::Futex => Some(self.futex(syscall)),
            _ => None,
        }
    }

    fn locked(&self, fd: u32) -> Option<Object> {
        let place = format!("/proc/{}/fd/{fd}", self.pid);
        let path = fs::read_link(&place).ok()?;
        Some(Object::Locked(LockedFile {
            path: Some(path.to_string_lossy().into_owned()),
            inode: Stat::cached(&place)?.inode,
            holders: Vec::new(),
        }))
    }

    fn descriptor(&self, fd: u32, reads: bool) -> Option<Object> {
        let place = format!("/proc/{}/fd/{fd}", self.pid);
        let link = fs::read_link(&place).ok()?.to_string_lossy().into_owned();
        let inode = |kind: &str| link.strip_prefix(kind)?.strip_suffix(']')?.parse().ok();
        if let Some(inode) = inode("socket:[") {
            return Some(Object::Socket(Socket {
                fd: Some(fd),
                blocking: descriptors::is_blocking(self.pid, fd),
                ..sockets::socket(self.pid, inode)
            }));
        }
        let pipe = |inode| {
            Object::Pipe(Pipe {
                fd: Some(fd),
                inode,
                reads,
                peers: Vec::new(),
                child: false,
            })
        };
        if let Some(inode) = inode("pipe:[") {
            return Some(pipe(inode));
        }
        if !link.starts_with('/') {
            return Some(Object::Other { name: link });
        }
        let data = fs::metadata(&place).ok();
        Some(match data {
            Some(data) if data.file_type().is_fifo() => pipe(data.ino()),
            Some(data) if data.file_type().is_char_device() && is_terminal(&link) => {
                Object::Terminal { fd, path: link }
            }
            _ => Object::File {
                path: link,
                opened_to_read: None,
            },
        })
    }

    /// A call that names its peer is believed before the kernel's table: a connection may not be
    /// there yet.
    fn socket(&self, syscall: &RawSyscall) -> Option<Object> {
        let named = match syscall.number {
            42 => self.sockaddr(syscall.args[1], syscall.args[2]),
            44 => self.sockaddr(syscall.args[4], syscall.args[5]),
            _ => None,
        };
        // A descriptor that has been closed meanwhile may stand for a file by now.
        let known = match self.descriptor(syscall.args[0] as u32, syscall.reads()) {
            Some(Object::Socket(socket)) => Some(socket),
            _ => None,
        };
        match (named, known) {
            (Some(Object::Socket(named)), Some(known)) => Some(Object::Socket(Socket {
                protocol: named.protocol,
                peer: named.peer,
                ..known
            })),
            (named, known) => named.or(known.map(Object::Socket)),
        }
    }

    fn sockaddr(&self, address: u64, length: u64) -> Option<Object> {
        let mut bytes = [0; MAX_SOCKADDR];
        let length = usize::try_from(length).ok()?.min(MAX_SOCKADDR);
        let bytes = bytes.get_mut(..length)?;
        if self.memory.read(ProcAddr(address), bytes) != length {
            return None;
        }
        sockets::parse_sockaddr(bytes)
    }

    fn path(&self, syscall: &RawSyscall, index: usize) -> Option<Object> {
        let address = syscall.args.get(index)?;
        let path = self.memory.string(ProcAddr(*address), MAX_PATH)?;
        let folder = index
            .checked_sub(1)
            .and_then(|before| syscall.args.get(before));
        // The memory may hold something else by now.
        if path.contains(char::REPLACEMENT_CHARACTER) || path.contains(char::is_control) {
            return None;
        }
        if path.is_empty() {
            return self.descriptor(*folder? as u32, false);
        }
        let folder = match folder.map(|&folder| folder as i32) {
            Some(number) if number != libc::AT_FDCWD => format!("fd/{number}"),
            _ => "cwd".to_owned(),
        };
        let base = fs::read_link(format!("/proc/{}/{folder}", self.pid)).unwrap_or_default();
        let path = base.join(path).to_string_lossy().into_owned();
        let is_read = |flags| flags as i32 & libc::O_ACCMODE == libc::O_RDONLY;
        Some(Object::File {
            path,
            opened_to_read: syscall.opens_with().map(is_read),
        })
    }

    /// What a `poll` waits for: the descriptors of its array of `struct pollfd` (`int fd; short
    /// events; short revents`).
    fn polled(&self, syscall: &RawSyscall) -> Option<Object> {
        const POLLIN: u16 = 1;
        let count = usize::try_from(syscall.args[1]).ok()?.min(MAX_POLLED);
        let mut bytes = vec![0; count * 8];
        let read = self.memory.read(ProcAddr(syscall.args[0]), &mut bytes);
        let mut found: Vec<Object> = bytes[..read]
            .chunks_exact(8)
            .filter_map(|entry| {
                let fd = i32::from_le_bytes(*entry.first_chunk()?);
                let events = u16::from_le_bytes([entry[4], entry[5]]);
                self.descriptor(u32::try_from(fd).ok()?, events & POLLIN != 0)
            })
            // A file is always ready: where one seems to be waited for, the descriptor has been
            // closed and given away since.
            .filter(|object| !matches!(object, Object::File { .. }))
            .collect();
        match found.len() {
            0 => None,
            1 => found.pop(),
            _ => Some(Object::Any(found)),
        }
    }

    /// The holder of the lock, if it is a `pthread_mutex_t` of glibc (`__lock`, `__count`,
    /// `__owner`): the owner is then a thread of the process. Whether it is such a mutex is for the
    /// frames to say.
    fn futex(&self, syscall: &RawSyscall) -> Object {
        let mut words = [0; 12];
        let read = self.memory.read(ProcAddr(syscall.args[0]), &mut words) == words.len();
        let owner = words.last_chunk().map(|owner| u32::from_le_bytes(*owner));
        let holder = owner
            .filter(|_| read)
            .map(|owner| owner & FUTEX_TID_MASK)
            .filter(|&owner| owner != 0 && self.is_thread(owner));
        Object::Futex { holder }
    }

    fn is_thread(&self, tid: u32) -> bool {
        fs::exists(format!("/proc/{}/task/{tid}", self.pid)).unwrap_or(false)
    }
}

fn is_terminal(path: &str) -> bool {
    ["/dev/pts/", "/dev/tty", "/dev/console"]
        .iter()
        .any(|prefix| path.starts_with(prefix))
}

#[cfg(test)]
mod tests;
