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
    /// How long before them the time began.
    late_ns: u64,
}

/// The kernel adds to a running thread's time on a CPU at its ticks; the longest are 10 ms apart.
const TICK_NS: u64 = 10_000_000;

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
            late_ns: 0,
        }
    }

    /// Read so long after the time that they are to tell of began.
    pub(super) fn late_by(self, late_ns: u64) -> Self {
        Self { late_ns, ..self }
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
        let on_cpu_ns = self
            .on_cpu_until(now, on_cpu)
            .map_or(rest, |ns| ns.min(rest));
        Split {
            on_cpu_ns,
            runnable_ns,
            blocked_ns: rest - on_cpu_ns,
        }
    }

    /// How long the thread was on a CPU: where it is there now, before the first of these times
    /// too. `None` is all along.
    fn on_cpu_until(self, now: Self, on_cpu: bool) -> Option<u64> {
        let measured_ns = now.on_cpu_ns.saturating_sub(self.on_cpu_ns);
        match (on_cpu, now.on_cpu_ns) {
            (true, 0) => None,
            (true, _) => Some(measured_ns + self.late_ns + TICK_NS),
            (false, _) => Some(measured_ns),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_is_on_its_cpu_now_may_have_waited_before() {
        let at = |on_cpu_ns| Times {
            on_cpu_ns,
            ..Times::default()
        };
        let first = at(5_000_000).late_by(3_000_000);
        let now = at(25_000_000);
        assert_eq!(first.on_cpu_until(now, true), Some(33_000_000));
        assert_eq!(first.on_cpu_until(now, false), Some(20_000_000));
        // A kernel without these times.
        assert_eq!(at(0).on_cpu_until(at(0), true), None);
    }
}
