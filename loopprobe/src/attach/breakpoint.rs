//! When a thread executes an instruction, for a few times: a breakpoint in its debug registers.
//!
//! The kernel keeps it (`perf_event_open(2)`, `PERF_TYPE_BREAKPOINT`): nothing is written to the
//! target's memory, and nobody is stopped or signalled. After the times that were asked for the
//! kernel takes it off by itself, and when the descriptor is closed.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};

use aya_obj::generated::perf_event_attr;

use super::sys::owned;
use crate::{elf::ProcAddr, process::PAGE};

// Numbers of `include/uapi/linux/perf_event.h` and `hw_breakpoint.h`.
const BREAKPOINT: u32 = 5;
const EXECUTED: u32 = 4;
const WITH_TIME: u64 = 1 << 2;
const FD_CLOEXEC: u64 = 8;
/// `PERF_EVENT_IOC_REFRESH`: enables the event for so many times more.
const REFRESH: libc::Ioctl = 0x2402;
/// `PERF_RECORD_SAMPLE`.
const SAMPLE: u32 = 9;
/// Where `data_head` lies in `struct perf_event_mmap_page`.
const DATA_HEAD: usize = 1024;
/// A page of the kernel's about what follows, and one of records.
const LENGTH: usize = 2 * PAGE as usize;
/// A record's header and its time.
const RECORD: usize = 16;

/// A breakpoint on one instruction for one thread.
#[derive(Debug)]
pub(crate) struct Breakpoint {
    /// Held for as long as the breakpoint shall stay.
    event: OwnedFd,
    ring: NonNull<u8>,
}

impl Breakpoint {
    /// Has the next `times` executions noted; at most as many as records fit a page.
    ///
    /// # Errors
    ///
    /// What the kernel gives: all of a processor's four may be in use, a virtual machine may have
    /// none, and the thread may have ended.
    pub(crate) fn place(tid: u32, address: ProcAddr, times: u32) -> io::Result<Self> {
        debug_assert!(times as usize * RECORD <= PAGE as usize);
        let event = open(tid, address)?;
        // SAFETY: a new mapping of the event's ring; the kernel alone writes to it.
        let ring = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                LENGTH,
                libc::PROT_READ,
                libc::MAP_SHARED,
                event.as_raw_fd(),
                0,
            )
        };
        if ring == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let ring = NonNull::new(ring.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        let placed = Self { event, ring };
        // SAFETY: a request without memory, on a descriptor of ours.
        if unsafe { libc::ioctl(placed.event.as_raw_fd(), REFRESH, times) } == 0 {
            Ok(placed)
        } else {
            Err(io::Error::last_os_error())
        }
    }

    /// When the instruction was executed so far (`CLOCK_MONOTONIC`, nanoseconds).
    pub(crate) fn hits(&self) -> Vec<u64> {
        // SAFETY: the word lies in the mapped page, is aligned, and the kernel writes it whole.
        let head = unsafe { &*self.ring.add(DATA_HEAD).cast::<AtomicU64>().as_ptr() };
        let length = (head.load(Ordering::Acquire) as usize).min(PAGE as usize);
        // SAFETY: records up to the head are complete; the page behind them is never written anew.
        let bytes = unsafe {
            std::slice::from_raw_parts(self.ring.add(PAGE as usize).as_ptr().cast_const(), length)
        };
        let word = |at: usize| {
            let bytes = bytes.get(at..)?.first_chunk()?;
            Some(u64::from_le_bytes(*bytes))
        };
        let (mut at, mut hits) = (0, Vec::new());
        // `struct perf_event_header`: a type of 32 bits, 16 of flags, 16 of size.
        while let Some(header) = word(at) {
            if header as u32 == SAMPLE {
                hits.extend(word(at + 8));
            }
            at += usize::from((header >> 48) as u16).max(8);
        }
        hits
    }
}

impl Drop for Breakpoint {
    fn drop(&mut self) {
        // SAFETY: mapped in `place`, and used no more.
        unsafe { libc::munmap(self.ring.as_ptr().cast(), LENGTH) };
    }
}

fn open(tid: u32, address: ProcAddr) -> io::Result<OwnedFd> {
    // SAFETY: all-zero is a valid `perf_event_attr`.
    let mut attr: perf_event_attr = unsafe { std::mem::zeroed() };
    attr.size = size_of::<perf_event_attr>() as u32;
    attr.type_ = BREAKPOINT;
    attr.bp_type = EXECUTED;
    attr.__bindgen_anon_3.bp_addr = address.0;
    // An instruction's breakpoint has the length of a `long`, whatever its own.
    attr.__bindgen_anon_4.bp_len = size_of::<libc::c_long>() as u64;
    attr.__bindgen_anon_1.sample_period = 1;
    attr.sample_type = WITH_TIME;
    attr.set_disabled(1);
    attr.set_exclude_kernel(1);
    attr.set_exclude_hv(1);
    attr.set_use_clockid(1);
    attr.clockid = libc::CLOCK_MONOTONIC;
    attr.__bindgen_anon_2.wakeup_events = u32::MAX;
    let tid = libc::pid_t::try_from(tid).map_err(io::Error::other)?;
    // SAFETY: the kernel reads `attr`, whose size is in it.
    owned(unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attr,
            tid,
            -1,
            -1,
            FD_CLOEXEC,
        )
    })
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use super::*;
    use crate::clock::now_ns;

    #[inline(never)]
    extern "C" fn nothing(number: u64) -> u64 {
        black_box(number)
    }

    #[test]
    fn executions_are_noted_with_their_times_and_only_as_many_as_asked() {
        // SAFETY: a system call without arguments.
        let tid = unsafe { libc::gettid() } as u32;
        let address = ProcAddr(nothing as *const () as u64);
        let placed = match Breakpoint::place(tid, address, 4) {
            Ok(placed) => placed,
            // With kernel.perf_event_paranoid at 3, as Debian has it, this takes a capability.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                eprintln!("not tested without CAP_PERFMON: {error}");
                return;
            }
            Err(error) => panic!("no breakpoint: {error}"),
        };
        assert_eq!(placed.hits(), [0; 0]);
        let before = now_ns();
        for number in 0..100 {
            black_box(nothing(number));
        }
        let hits = placed.hits();
        assert_eq!(hits.len(), 4);
        assert!(hits.is_sorted() && hits[0] >= before && hits[3] <= now_ns());
    }
}
