//! The kernel's `struct task_struct`, by the offsets that its type information gives.

use aya_ebpf::helpers::{bpf_probe_read_kernel, generated::bpf_get_current_task_btf};

use crate::maps::{
    task_cpu_time_offset, task_flags_offset, task_fsbase_offset, task_state_offset,
    task_tgid_offset,
};

/// A task gives back what it has, its memory first (`PF_EXITING` in `include/linux/sched.h`).
const PF_EXITING: u32 = 4;

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

/// A field of the current task. The verifier knows what that is and where, so that no helper need
/// be called, which would take as long as all else that is done with it.
///
/// # Safety
///
/// There is a field of type `T` at the offset.
#[inline(always)]
unsafe fn of_current<T: Copy>(offset: u64) -> T {
    // SAFETY: the helper takes nothing, and a thread's task is there as long as it runs.
    unsafe {
        let task = bpf_get_current_task_btf() as *const u8;
        task.add(offset as usize).cast::<T>().read_volatile()
    }
}

/// How long the current task has been on a CPU, in nanoseconds, up to the scheduler's last look.
#[inline(always)]
pub fn current_cpu_time() -> u64 {
    // SAFETY: the offset is that of `u64 se.sum_exec_runtime`.
    unsafe { of_current(task_cpu_time_offset()) }
}

/// The current task's state: 0 if it is ready to run.
#[inline(always)]
pub fn current_state() -> u32 {
    // SAFETY: the offset is that of `unsigned int __state` (Linux 5.14 and later).
    unsafe { of_current(task_state_offset()) }
}

/// Whether the current thread is at its end: it never runs the user's code again, and soon has no
/// memory that could be read (`do_exit` in `kernel/exit.c`).
#[inline(always)]
pub fn is_current_exiting() -> bool {
    // SAFETY: the offset is that of `unsigned int flags`.
    unsafe { of_current::<u32>(task_flags_offset()) & PF_EXITING != 0 }
}

/// Where the current thread keeps its variables, as its registers say.
#[inline(always)]
pub fn current_thread_pointer() -> u64 {
    // SAFETY: the offset is that of `unsigned long thread.fsbase`.
    unsafe { of_current(task_fsbase_offset()) }
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
