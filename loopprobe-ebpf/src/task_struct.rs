//! The kernel's `struct task_struct`, by the offsets that its type information gives.

use aya_ebpf::helpers::bpf_probe_read_kernel;

use crate::maps::{task_cpu_time_offset, task_tgid_offset};

/// A 32-bit field of a `task_struct`.
#[inline(always)]
pub fn task_field(task: u64, offset: u64) -> Option<u32> {
    // SAFETY: the helper fails on a bad address.
    unsafe { bpf_probe_read_kernel((task + offset) as *const u32) }.ok()
}

/// How long a task has been on a CPU, in nanoseconds.
#[inline(always)]
pub fn cpu_time(task: u64) -> u64 {
    // SAFETY: the helper fails on a bad address.
    unsafe { bpf_probe_read_kernel((task + task_cpu_time_offset()) as *const u64) }.unwrap_or(0)
}

/// Whether a task is a thread of the current one's process.
#[inline(always)]
pub fn is_of_current(task: u64) -> bool {
    task_field(task, task_tgid_offset()) == Some(current_tgid())
}

#[inline(always)]
pub fn current_tgid() -> u32 {
    (aya_ebpf::helpers::bpf_get_current_pid_tgid() >> 32) as u32
}
