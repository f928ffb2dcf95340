//! What each system call waits for, and in which of its arguments that stands. Numbers are those of
//! x86_64, whatever the processor.

use serde::{Deserialize, Serialize};

use super::{syscall_generic, syscall_names};
use crate::elf::Architecture;

/// A system call as the thread entered it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RawSyscall {
    /// Its number on x86_64 (`arch/x86/entry/syscalls/syscall_64.tbl`).
    pub number: u32,
    /// Its arguments, in their order.
    pub args: [u64; 6],
}

/// What a system call waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waits {
    /// What its file descriptor, the first argument, stands for.
    Descriptor,
    /// As [`Waits::Descriptor`], to be given back.
    Close,
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
    /// A semaphore of System V.
    Semaphore,
    /// A lock on the file in its first argument.
    FileLock,
    /// A child process, or that one is made.
    Child,
    /// A new thread or, by `clone3`, perhaps a process.
    Start,
    /// Any of several file descriptors, given as `struct pollfd`.
    Poll,
    /// Any of several file descriptors, given otherwise.
    Events,
    /// The events of an epoll instance.
    Epoll,
    /// The process's memory map.
    MemoryMap,
    /// Nothing: it lets other threads run.
    Yield,
}

/// `uretprobe` (Linux 6.11) and `uprobe` (Linux 6.18): the kernel's own code for probes makes them,
/// no program does.
const OF_PROBES: [i64; 2] = [335, 336];

impl RawSyscall {
    /// The system call of a thread, by its number on this machine; `None` for -1, which is none,
    /// and for those that a probe makes, which the program did not.
    pub fn of_thread(number: i64, args: [u64; 6]) -> Option<Self> {
        let number = u32::try_from(number).ok()?;
        let number = match Architecture::HOST {
            Architecture::X86_64 => number,
            Architecture::Aarch64 => syscall_generic::on_x86_64(number),
        };
        (!Self::is_of_probe(i64::from(number))).then_some(Self { number, args })
    }

    /// Whether a probe makes such a system call.
    pub fn is_of_probe(number: i64) -> bool {
        OF_PROBES.contains(&number)
    }

    /// The call's name; `syscall_N` for a number that is not known.
    pub fn name(&self) -> String {
        let own = self.number & !syscall_generic::UNKNOWN;
        syscall_names::name(self.number).map_or_else(|| format!("syscall_{own}"), str::to_owned)
    }

    /// Whether a thread waits in it for events or for another thread, as one with nothing to do
    /// does.
    pub(crate) fn waits_for_work(&self) -> bool {
        matches!(
            self.waits(),
            Some(Waits::Futex | Waits::Events | Waits::Epoll)
        )
    }

    /// Whether it is a `poll` or `select` of no descriptors: that only lets time pass.
    pub(crate) fn is_empty_poll(&self) -> bool {
        let [first, second, ..] = self.args;
        match self.number {
            // poll, ppoll.
            7 | 271 => second == 0,
            // select, pselect6: `int`.
            23 | 270 => first as u32 == 0,
            _ => false,
        }
    }

    /// Whether it is a wait for a futex that ends by itself.
    pub(crate) fn has_limit(&self) -> bool {
        // FUTEX_WAIT and FUTEX_WAIT_BITSET without their flags (include/uapi/linux/futex.h).
        self.number == 202 && matches!(self.args[1] & 127, 0 | 9) && self.args[3] != 0
    }

    /// What it waits for, where that is known.
    pub(crate) fn waits(&self) -> Option<Waits> {
        Some(match self.number {
            _ if self.is_empty_poll() => Waits::Time,
            0 | 1 | 5 | 16..=20 | 40 | 77 | 78 | 187 | 217 | 275 | 276 | 278 | 285 => {
                Waits::Descriptor
            }
            // fchmod, fchown, fstatfs, fsetxattr, fgetxattr, flistxattr, fremovexattr, fadvise64,
            // preadv to pwritev2.
            91 | 93 | 138 | 190 | 193 | 196 | 199 | 221 | 295 | 296 | 326..=328 => {
                Waits::Descriptor
            }
            // close, shutdown, close_range.
            3 | 48 | 436 => Waits::Close,
            2 | 4 | 6 | 21 | 76 | 80 | 82..=87 | 89 | 90 | 92 | 94 | 132..=134 | 137 => {
                Waits::Path(0)
            }
            // The xattr calls on paths, utime and utimes, chroot.
            161 | 188 | 189 | 191 | 192 | 194 | 195 | 197 | 198 | 235 => Waits::Path(0),
            88 | 257..=265 | 267..=269 | 280 | 303 | 316 | 332 | 437 | 439 | 452 => Waits::Path(1),
            266 => Waits::Path(2),
            26 | 74 | 75 | 162 | 277 | 306 => Waits::Sync,
            42..=47 | 288 | 299 | 307 => Waits::Socket,
            34 | 35 | 230 => Waits::Time,
            202 | 449 | 455 => Waits::Futex,
            65 | 220 => Waits::Semaphore,
            72 | 73 => Waits::FileLock,
            // CLONE_THREAD (include/uapi/linux/sched.h); clone3 has its flags in memory.
            56 if self.args[0] & 0x1_0000 != 0 => Waits::Start,
            435 => Waits::Start,
            56..=58 | 61 | 247 => Waits::Child,
            7 | 271 => Waits::Poll,
            // select, pselect6, io_getevents, io_pgetevents, io_uring_enter.
            23 | 270 | 208 | 333 | 426 => Waits::Events,
            232 | 281 | 441 => Waits::Epoll,
            // mmap, mprotect, munmap, brk, mremap, madvise, mlock to munlockall, mlock2,
            // pkey_mprotect, process_madvise.
            9..=12 | 25 | 28 | 149..=152 | 325 | 329 | 440 => Waits::MemoryMap,
            24 => Waits::Yield,
            _ => return None,
        })
    }

    /// The flags that it opens a file with, if it does.
    pub(crate) fn opens_with(&self) -> Option<u64> {
        match self.number {
            // open, openat.
            2 => Some(self.args[1]),
            257 => Some(self.args[2]),
            _ => None,
        }
    }

    /// Whether it takes something out of its descriptor, rather than putting something in.
    pub(crate) fn reads(&self) -> bool {
        matches!(
            self.number,
            0 | 17 | 19 | 43 | 45 | 47 | 78 | 217 | 275 | 288 | 295 | 299 | 327
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_wait_for_what_the_manual_says() {
        for (number, expected) in [
            (libc::SYS_read, Some(Waits::Descriptor)),
            (libc::SYS_writev, Some(Waits::Descriptor)),
            (libc::SYS_close, Some(Waits::Close)),
            (libc::SYS_unlink, Some(Waits::Path(0))),
            (libc::SYS_openat, Some(Waits::Path(1))),
            (libc::SYS_statx, Some(Waits::Path(1))),
            (libc::SYS_symlink, Some(Waits::Path(1))),
            (libc::SYS_fdatasync, Some(Waits::Sync)),
            (libc::SYS_recvmsg, Some(Waits::Socket)),
            (libc::SYS_accept4, Some(Waits::Socket)),
            (libc::SYS_clock_nanosleep, Some(Waits::Time)),
            (libc::SYS_futex, Some(Waits::Futex)),
            (libc::SYS_futex_waitv, Some(Waits::Futex)),
            (libc::SYS_fcntl, Some(Waits::FileLock)),
            (libc::SYS_vfork, Some(Waits::Child)),
            (libc::SYS_waitid, Some(Waits::Child)),
            (libc::SYS_ppoll, Some(Waits::Time)),
            (libc::SYS_pselect6, Some(Waits::Time)),
            (libc::SYS_epoll_pwait, Some(Waits::Epoll)),
            (libc::SYS_munmap, Some(Waits::MemoryMap)),
            (libc::SYS_madvise, Some(Waits::MemoryMap)),
            (libc::SYS_sched_yield, Some(Waits::Yield)),
            (libc::SYS_getpid, None),
        ] {
            let call = RawSyscall {
                number: number as u32,
                args: [0; 6],
            };
            assert_eq!(call.waits(), expected, "{}", call.name());
        }
        for (number, expected) in [
            (libc::SYS_ppoll, Some(Waits::Poll)),
            (libc::SYS_pselect6, Some(Waits::Events)),
        ] {
            let call = RawSyscall {
                number: number as u32,
                args: [1; 6],
            };
            assert_eq!(call.waits(), expected, "{}", call.name());
        }
        let call = RawSyscall {
            number: 9999,
            args: [0; 6],
        };
        assert_eq!(call.name(), "syscall_9999");
    }

    #[test]
    fn what_a_probe_calls_is_not_the_programs() {
        for number in [-1, 335, 336] {
            assert_eq!(RawSyscall::of_thread(number, [0; 6]), None);
        }
        let read = RawSyscall::of_thread(libc::SYS_read, [0; 6]);
        assert_eq!(read.map(|call| call.name()), Some("read".to_owned()));
    }
}
