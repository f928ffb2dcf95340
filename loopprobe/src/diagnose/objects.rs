use std::{fs, path::PathBuf};

use super::{Object, RawSyscall, sockets, syscall::Waits};
use crate::{elf::ProcAddr, unwind::Memory};

/// `PATH_MAX` of Linux.
const MAX_PATH: usize = 4096;
/// The largest socket address, `struct sockaddr_un`.
const MAX_SOCKADDR: usize = 110;
/// `FUTEX_TID_MASK`: of a priority-inheriting futex, the bits that hold its owner (`include/uapi/linux/futex.h`).
const FUTEX_TID_MASK: u32 = 0x3fff_ffff;

/// Finds out what system calls of a process are about, while they last: the numbers mean something else soon after.
#[derive(Clone, Copy, Debug)]
pub struct Objects {
    pid: u32,
    memory: Memory,
}

impl Objects {
    /// For the calls of one process.
    pub fn of(pid: u32) -> Self {
        Self {
            pid,
            memory: Memory::of(pid),
        }
    }

    /// What a call that a thread is in, or was in until just now, is about.
    pub fn resolve(&self, syscall: &RawSyscall) -> Option<Object> {
        match syscall.waits()? {
            Waits::Descriptor | Waits::FileLock | Waits::Sync => self.descriptor(syscall.args[0]),
            Waits::Socket => self.socket(syscall),
            Waits::Path(index) => self.path(syscall, index),
            Waits::Poll => self.polled(syscall.args[0]),
            Waits::Futex => Some(self.futex(syscall)),
            Waits::Time | Waits::Child | Waits::Events => None,
        }
    }

    fn descriptor(&self, number: u64) -> Option<Object> {
        // File descriptors are `int`; the registers' upper halves can hold anything.
        let number = number as u32;
        let link = fs::read_link(format!("/proc/{}/fd/{number}", self.pid)).ok()?;
        let text = link.to_string_lossy();
        let inode = |kind: &str| text.strip_prefix(kind)?.strip_suffix(']')?.parse().ok();
        Some(if let Some(inode) = inode("socket:[") {
            sockets::socket(self.pid, inode)
        } else if text.starts_with("pipe:[") {
            Object::Pipe
        } else if text.starts_with('/') {
            Object::File {
                path: text.into_owned(),
            }
        } else {
            Object::Other {
                name: text.into_owned(),
            }
        })
    }

    /// A call that names its peer is believed before the kernel's table: a connection may not be there yet.
    fn socket(&self, syscall: &RawSyscall) -> Option<Object> {
        let named = match syscall.number {
            42 => self.sockaddr(syscall.args[1], syscall.args[2]),
            44 => self.sockaddr(syscall.args[4], syscall.args[5]),
            _ => None,
        };
        // A descriptor that has been closed meanwhile may stand for a file by now.
        let is_socket = |object: &Object| matches!(object, Object::Socket { .. });
        named.or_else(|| self.descriptor(syscall.args[0]).filter(is_socket))
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
        if path.is_empty() {
            return self.descriptor(*folder?);
        }
        let folder = match folder.map(|&folder| folder as i32) {
            Some(number) if number != libc::AT_FDCWD => format!("fd/{number}"),
            _ => "cwd".to_owned(),
        };
        let base = fs::read_link(format!("/proc/{}/{folder}", self.pid)).unwrap_or_default();
        let path: PathBuf = base.join(path);
        Some(Object::File {
            path: path.to_string_lossy().into_owned(),
        })
    }

    /// The first of the descriptors in an array of `struct pollfd`.
    fn polled(&self, address: u64) -> Option<Object> {
        let mut number = [0; 4];
        if self.memory.read(ProcAddr(address), &mut number) != number.len() {
            return None;
        }
        self.descriptor(u64::from(u32::from_le_bytes(number)))
    }

    /// The holder of the lock, if it is a `pthread_mutex_t` of glibc (`__lock`, `__count`, `__owner`): the owner is then a
    /// thread of the process. Whether it is such a mutex is for the frames to say.
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

#[cfg(test)]
mod tests {
    use std::{fs::File, os::fd::AsRawFd as _};

    use super::*;

    fn resolve(number: i64, args: [u64; 6]) -> Option<Object> {
        Objects::of(std::process::id()).resolve(&RawSyscall {
            number: u32::try_from(number).expect("a number"),
            args,
        })
    }

    fn file(path: &str) -> Option<Object> {
        Some(Object::File {
            path: path.to_owned(),
        })
    }

    #[test]
    fn a_descriptor_leads_to_its_file() {
        let open = File::open("/proc/version").expect("a file");
        let number = open.as_raw_fd() as u64 | 0xdead_0000_0000;
        assert_eq!(
            resolve(libc::SYS_read, [number, 0, 0, 0, 0, 0]),
            file("/proc/version")
        );
    }

    #[test]
    fn a_path_is_read_from_memory_and_completed() {
        let (absolute, relative) = (c"/etc/hosts", c"x/y");
        let here = i64::from(libc::AT_FDCWD) as u64;
        let at = |path: &std::ffi::CStr| [here, path.as_ptr() as u64, 0, 0, 0, 0];
        assert_eq!(resolve(libc::SYS_openat, at(absolute)), file("/etc/hosts"));
        let expected = std::env::current_dir().expect("a folder").join("x/y");
        assert_eq!(
            resolve(libc::SYS_openat, at(relative)),
            file(&expected.to_string_lossy())
        );
    }

    #[test]
    fn what_cannot_be_read_is_absent() {
        assert_eq!(resolve(libc::SYS_openat, [0, 8, 0, 0, 0, 0]), None);
        assert_eq!(resolve(libc::SYS_read, [u64::MAX, 0, 0, 0, 0, 0]), None);
        assert_eq!(resolve(libc::SYS_connect, [u64::MAX, 8, 16, 0, 0, 0]), None);
    }
}
