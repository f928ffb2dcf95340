use serde::{Deserialize, Serialize};

/// A system call as the thread entered it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RawSyscall {
    /// Its number on x86_64 (`arch/x86/entry/syscalls/syscall_64.tbl`).
    pub number: u32,
    /// Its arguments: `rdi`, `rsi`, `rdx`, `r10`, `r8`, `r9`.
    pub args: [u64; 6],
}

/// What a system call waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waits {
    /// What its file descriptor, the first argument, stands for.
    Descriptor,
    /// A file system, for the path in the argument with this index.
    Path(usize),
    /// The disk.
    Sync,
    /// A socket, its first argument.
    Socket,
    /// Time.
    Time,
    /// A futex.
    Futex,
    /// A lock on the file in its first argument.
    FileLock,
    /// A child process.
    Child,
    /// Any of several file descriptors, given as `struct pollfd`.
    Poll,
    /// Any of several file descriptors, given otherwise.
    Events,
}

impl RawSyscall {
    /// The call's name; `syscall_N` for those that no thread waits in for long.
    pub fn name(&self) -> String {
        self.entry().map_or_else(
            || format!("syscall_{}", self.number),
            |entry| entry.1.to_owned(),
        )
    }

    pub(crate) fn waits(&self) -> Option<Waits> {
        self.entry().map(|entry| entry.2)
    }

    fn entry(&self) -> Option<&'static (u32, &'static str, Waits)> {
        TABLE.iter().find(|entry| entry.0 == self.number)
    }
}

/// The system calls in which a thread can wait for long.
const TABLE: &[(u32, &str, Waits)] = &[
    (0, "read", Waits::Descriptor),
    (1, "write", Waits::Descriptor),
    (2, "open", Waits::Path(0)),
    (3, "close", Waits::Descriptor),
    (4, "stat", Waits::Path(0)),
    (5, "fstat", Waits::Descriptor),
    (6, "lstat", Waits::Path(0)),
    (7, "poll", Waits::Poll),
    (16, "ioctl", Waits::Descriptor),
    (17, "pread64", Waits::Descriptor),
    (18, "pwrite64", Waits::Descriptor),
    (19, "readv", Waits::Descriptor),
    (20, "writev", Waits::Descriptor),
    (21, "access", Waits::Path(0)),
    (23, "select", Waits::Events),
    (26, "msync", Waits::Sync),
    (34, "pause", Waits::Time),
    (35, "nanosleep", Waits::Time),
    (40, "sendfile", Waits::Descriptor),
    (42, "connect", Waits::Socket),
    (43, "accept", Waits::Socket),
    (44, "sendto", Waits::Socket),
    (45, "recvfrom", Waits::Socket),
    (46, "sendmsg", Waits::Socket),
    (47, "recvmsg", Waits::Socket),
    (56, "clone", Waits::Child),
    (58, "vfork", Waits::Child),
    (61, "wait4", Waits::Child),
    (73, "flock", Waits::FileLock),
    (72, "fcntl", Waits::FileLock),
    (74, "fsync", Waits::Sync),
    (75, "fdatasync", Waits::Sync),
    (76, "truncate", Waits::Path(0)),
    (77, "ftruncate", Waits::Descriptor),
    (78, "getdents", Waits::Descriptor),
    (82, "rename", Waits::Path(0)),
    (83, "mkdir", Waits::Path(0)),
    (84, "rmdir", Waits::Path(0)),
    (85, "creat", Waits::Path(0)),
    (86, "link", Waits::Path(0)),
    (87, "unlink", Waits::Path(0)),
    (88, "symlink", Waits::Path(1)),
    (89, "readlink", Waits::Path(0)),
    (137, "statfs", Waits::Path(0)),
    (162, "sync", Waits::Sync),
    (187, "readahead", Waits::Descriptor),
    (202, "futex", Waits::Futex),
    (217, "getdents64", Waits::Descriptor),
    (230, "clock_nanosleep", Waits::Time),
    (232, "epoll_wait", Waits::Events),
    (247, "waitid", Waits::Child),
    (257, "openat", Waits::Path(1)),
    (258, "mkdirat", Waits::Path(1)),
    (262, "newfstatat", Waits::Path(1)),
    (263, "unlinkat", Waits::Path(1)),
    (264, "renameat", Waits::Path(1)),
    (267, "readlinkat", Waits::Path(1)),
    (270, "pselect6", Waits::Events),
    (271, "ppoll", Waits::Poll),
    (275, "splice", Waits::Descriptor),
    (277, "sync_file_range", Waits::Sync),
    (281, "epoll_pwait", Waits::Events),
    (285, "fallocate", Waits::Descriptor),
    (288, "accept4", Waits::Socket),
    (295, "preadv", Waits::Descriptor),
    (296, "pwritev", Waits::Descriptor),
    (299, "recvmmsg", Waits::Socket),
    (306, "syncfs", Waits::Sync),
    (307, "sendmmsg", Waits::Socket),
    (316, "renameat2", Waits::Path(1)),
    (326, "copy_file_range", Waits::Descriptor),
    (327, "preadv2", Waits::Descriptor),
    (328, "pwritev2", Waits::Descriptor),
    (332, "statx", Waits::Path(1)),
    (426, "io_uring_enter", Waits::Events),
    (435, "clone3", Waits::Child),
    (437, "openat2", Waits::Path(1)),
    (441, "epoll_pwait2", Waits::Events),
    (449, "futex_waitv", Waits::Futex),
    (455, "futex_wait", Waits::Futex),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn call(number: i64) -> RawSyscall {
        RawSyscall {
            number: u32::try_from(number).expect("a number"),
            args: [0; 6],
        }
    }

    #[test]
    fn numbers_agree_with_the_c_library() {
        for (number, name) in [
            (libc::SYS_read, "read"),
            (libc::SYS_nanosleep, "nanosleep"),
            (libc::SYS_fdatasync, "fdatasync"),
            (libc::SYS_futex, "futex"),
            (libc::SYS_wait4, "wait4"),
            (libc::SYS_waitid, "waitid"),
            (libc::SYS_recvfrom, "recvfrom"),
            (libc::SYS_connect, "connect"),
            (libc::SYS_accept4, "accept4"),
            (libc::SYS_openat, "openat"),
            (libc::SYS_newfstatat, "newfstatat"),
            (libc::SYS_statx, "statx"),
            (libc::SYS_epoll_wait, "epoll_wait"),
            (libc::SYS_epoll_pwait, "epoll_pwait"),
            (libc::SYS_ppoll, "ppoll"),
            (libc::SYS_copy_file_range, "copy_file_range"),
            (libc::SYS_syncfs, "syncfs"),
            (libc::SYS_sync_file_range, "sync_file_range"),
            (libc::SYS_clock_nanosleep, "clock_nanosleep"),
            (libc::SYS_flock, "flock"),
            (libc::SYS_fcntl, "fcntl"),
            (libc::SYS_getdents64, "getdents64"),
            (libc::SYS_pwritev2, "pwritev2"),
            (libc::SYS_clone3, "clone3"),
        ] {
            assert_eq!(call(number).name(), name);
        }
        assert_eq!(call(9999).name(), "syscall_9999");
    }

    #[test]
    fn no_number_stands_twice() {
        let mut numbers: Vec<u32> = TABLE.iter().map(|entry| entry.0).collect();
        numbers.sort_unstable();
        let count = numbers.len();
        numbers.dedup();
        assert_eq!(numbers.len(), count);
    }
}
