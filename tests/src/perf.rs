//! A sampler of its own, by `perf_event_open`: user registers and a copy of the user stack of one
//! thread.
//!
//! It knows nothing of loopprobe's eBPF programs, so that unwinding can be judged apart from them.

use std::{
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    ptr::{self, NonNull},
    sync::atomic::{AtomicU64, Ordering, fence},
};

use anyhow::{Context as _, Result, ensure};
use loopprobe::unwind::{RawStack, Registers};

/// Pages of the ring buffer's data part; a power of two.
const DATA_PAGES: usize = 512;
const PAGE: usize = 4096;
/// Bytes of stack that are copied; what loopprobe copies at most.
pub const STACK_BYTES: u32 = 32 << 10;

/// `PERF_SAMPLE_REGS_USER | PERF_SAMPLE_STACK_USER` (`include/uapi/linux/perf_event.h`).
const SAMPLE_TYPE: u64 = 1 << 12 | 1 << 13;
/// `PERF_RECORD_SAMPLE`.
const RECORD_SAMPLE: u32 = 9;
/// BX, BP, SP, IP, R12 to R15 (`arch/x86/include/uapi/asm/perf_regs.h`); written in the order of
/// their numbers.
const REGISTERS: u64 = 1 << 1 | 1 << 6 | 1 << 7 | 1 << 8 | 0xf << 20;

/// `struct perf_event_attr` up to `PERF_ATTR_SIZE_VER5`.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    sample_frequency: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    breakpoint_type: u32,
    config1: u64,
    config2: u64,
    branch_sample_type: u64,
    sample_regs_user: u64,
    sample_stack_user: u32,
    clock: i32,
    sample_regs_intr: u64,
    aux_watermark: u32,
    sample_max_stack: u16,
    reserved: u16,
}

/// Samples one thread on the `cpu-clock`.
pub struct Sampler {
    _event: OwnedFd,
    ring: NonNull<u8>,
}

impl Sampler {
    /// Begins to sample a thread.
    pub fn of_thread(tid: u32, hz: u64) -> Result<Self> {
        const SOFTWARE: u32 = 1;
        const FREQUENCY: u64 = 1 << 10;
        /// `PERF_FLAG_FD_CLOEXEC`.
        const FD_CLOEXEC: libc::c_ulong = 1 << 3;
        let attributes = Attributes {
            kind: SOFTWARE,
            size: u32::try_from(size_of::<Attributes>())?,
            sample_frequency: hz,
            sample_type: SAMPLE_TYPE,
            flags: FREQUENCY,
            sample_regs_user: REGISTERS,
            sample_stack_user: STACK_BYTES,
            ..Attributes::default()
        };
        // SAFETY: `attributes` is a `perf_event_attr` of the size that it states; the call writes
        // nothing.
        let event = unsafe {
            libc::syscall(
                libc::SYS_perf_event_open,
                ptr::from_ref(&attributes),
                libc::pid_t::try_from(tid)?,
                -1,
                -1,
                FD_CLOEXEC,
            )
        };
        ensure!(
            event >= 0,
            "perf_event_open: {}",
            io::Error::last_os_error()
        );
        // SAFETY: the kernel just returned this descriptor, and nobody else has it.
        let event = unsafe { OwnedFd::from_raw_fd(i32::try_from(event)?) };
        let ring = map(&event)?;
        Ok(Self {
            _event: event,
            ring,
        })
    }

    /// Takes the samples that are there.
    pub fn drain(&mut self) -> Vec<RawStack> {
        let (head, tail) = (self.position(1024), self.position(1032));
        let end = head.load(Ordering::Acquire);
        let mut at = tail.load(Ordering::Relaxed);
        let mut samples = Vec::new();
        while at < end {
            let kind = u32::from_le_bytes(self.copy(at));
            let size = u16::from_le_bytes(self.copy(at + 6));
            if kind == RECORD_SAMPLE {
                samples.extend(self.sample(at + 8));
            }
            at += u64::from(size);
        }
        fence(Ordering::Release);
        tail.store(end, Ordering::Release);
        samples
    }

    fn position(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: `data_head` and `data_tail` are aligned words of the first mapped page, which
        // lives as long as `self`.
        unsafe { &*self.ring.as_ptr().add(offset).cast() }
    }

    fn sample(&self, at: u64) -> Option<RawStack> {
        let word = |index: u64| u64::from_le_bytes(self.copy(at + index * 8));
        // A thread without user state (in the kernel for good) has no registers and no stack.
        if word(0) == 0 {
            return None;
        }
        let mut saved = [0; Registers::SAVED];
        saved[..5].copy_from_slice(&[word(1), word(5), word(6), word(7), word(8)]);
        let regs = Registers {
            bp: word(2),
            sp: word(3),
            ip: word(4),
            saved,
            ..Registers::default()
        };
        let size = word(9);
        let copied = if size == 0 { 0 } else { word(10 + size / 8) };
        let bytes = (0..copied / 8)
            .flat_map(|index| word(10 + index).to_le_bytes())
            .collect();
        Some(RawStack {
            regs,
            bytes,
            outermost: Vec::new(),
            entry_sp: None,
        })
    }

    fn copy<const N: usize>(&self, at: u64) -> [u8; N] {
        let mut bytes = [0; N];
        for (index, byte) in bytes.iter_mut().enumerate() {
            let offset = (at as usize + index) % (DATA_PAGES * PAGE);
            // SAFETY: the data part has `DATA_PAGES` pages behind the first one, and `offset` lies
            // in it.
            *byte = unsafe { self.ring.as_ptr().add(PAGE + offset).read_volatile() };
        }
        bytes
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and no reference into it outlives it.
        unsafe { libc::munmap(self.ring.as_ptr().cast(), (DATA_PAGES + 1) * PAGE) };
    }
}

fn map(event: &OwnedFd) -> Result<NonNull<u8>> {
    // SAFETY: a new shared mapping of the event's buffer at a place of the kernel's choice.
    let ring = unsafe {
        libc::mmap(
            ptr::null_mut(),
            (DATA_PAGES + 1) * PAGE,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            event.as_raw_fd(),
            0,
        )
    };
    ensure!(
        ring != libc::MAP_FAILED,
        "mapping the samples: {}",
        io::Error::last_os_error()
    );
    NonNull::new(ring.cast()).context("a mapping at null")
}
