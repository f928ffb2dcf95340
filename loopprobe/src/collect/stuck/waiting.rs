//! The threads of a process that wait: their registers, their system call, and the time that they
//! have waited.

use std::{collections::HashMap, fs};

use loopprobe_common::records::ThreadRegisters;

use crate::{
    attach::Kernel,
    collect::stacks::registers,
    diagnose::RawSyscall,
    elf::ProcAddr,
    model::Split,
    unwind::{Memory, RawStack},
};

/// How much of a stack is read at once.
const COPY_BYTES: usize = 64 * 1024;

/// CPU times of a thread, in nanoseconds: on a CPU, and waiting for one
/// (`/proc/PID/task/TID/schedstat`, `Documentation/scheduler/sched-stats.rst`, Linux 6.18).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Times {
    on_cpu_ns: u64,
    runnable_ns: u64,
}

impl Times {
    pub(super) fn of(pid: u32, tid: u32) -> Self {
        let text =
            fs::read_to_string(format!("/proc/{pid}/task/{tid}/schedstat")).unwrap_or_default();
        let mut words = text
            .split_ascii_whitespace()
            .map(|word| word.parse().unwrap_or(0));
        Self {
            on_cpu_ns: words.next().unwrap_or(0),
            runnable_ns: words.next().unwrap_or(0),
        }
    }

    /// Where the time since then went. Without times, the thread did all along what it was seen
    /// doing.
    pub(super) fn split(self, pid: u32, tid: u32, duration_ns: u64, on_cpu: bool) -> Split {
        let now = Self::of(pid, tid);
        let runnable_ns = now
            .runnable_ns
            .saturating_sub(self.runnable_ns)
            .min(duration_ns);
        let rest = duration_ns - runnable_ns;
        let on_cpu_ns = if on_cpu {
            rest
        } else {
            now.on_cpu_ns.saturating_sub(self.on_cpu_ns).min(rest)
        };
        Split {
            on_cpu_ns,
            runnable_ns,
            blocked_ns: rest - on_cpu_ns,
        }
    }
}

/// A thread that waits in the kernel.
pub(in crate::collect) struct Waiting {
    pub raw: RawStack,
    pub syscall: Option<RawSyscall>,
}

/// The process's threads that wait.
pub(super) fn waiting(pid: u32, kernel: &Kernel, memory: &Memory) -> HashMap<u32, Waiting> {
    // Without them, polls that were open at the attach are not seen on threads that wait.
    let threads = kernel.thread_registers(pid).unwrap_or_default();
    threads
        .into_iter()
        .filter(|thread| is_waiting(pid, thread.tid))
        .map(|thread| (thread.tid, Waiting::new(&thread, memory)))
        .collect()
}

impl Waiting {
    pub(in crate::collect) fn new(thread: &ThreadRegisters, memory: &Memory) -> Self {
        let regs = registers(&thread.registers);
        let mut bytes = vec![0; COPY_BYTES];
        let copied = memory.read(ProcAddr(regs.sp), &mut bytes);
        bytes.truncate(copied);
        let syscall = RawSyscall::of_thread(thread.syscall, thread.args);
        Self {
            raw: RawStack {
                regs,
                bytes,
                outermost: Vec::new(),
                entry_sp: None,
            },
            syscall,
        }
    }
}

/// Whether a thread is neither on a CPU nor ready: its state in `/proc/PID/task/TID/stat` is not
/// `R`.
pub(in crate::collect) fn is_waiting(pid: u32, tid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/task/{tid}/stat")).unwrap_or_default();
    // The name before the state may hold anything, closing brackets too.
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with('R'))
}

pub(super) fn thread_exists(pid: u32, tid: u32) -> bool {
    fs::exists(format!("/proc/{pid}/task/{tid}")).unwrap_or(false)
}
