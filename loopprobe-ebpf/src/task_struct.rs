//! The kernel's `struct task_struct`, by the offsets that its type information gives.

use aya_ebpf::{
    bindings::task_struct,
    helpers::{bpf_probe_read_kernel, generated::bpf_get_current_task_btf},
    programs::BtfTracePointContext,
};

use crate::maps::{
    task_cpu_time_offset, task_flags_offset, task_fsbase_offset, task_pid_offset,
    task_state_offset, task_tgid_offset,
};

/// A task gives back what it has, its memory first (`PF_EXITING` in `include/linux/sched.h`).
const PF_EXITING: u32 = 4;

/// A 32-bit field of a `task_struct`.
#[inline(always)]
pub fn task_field(task: u64, offset: u64) -> Option<u32> {
    // SAFETY: the helper fails on a bad address.
    unsafe { bpf_probe_read_kernel((task + offset) as *const u32) }.ok()
}

/// A task that the verifier knows to be one: the current one, or a typed tracepoint's argument. No
/// helper need be called for its fields, which would take as long as all else that is done with it.
#[derive(Clone, Copy)]
pub struct KernelTask(*const task_struct);

impl KernelTask {
    /// The current thread's.
    #[inline(always)]
    pub fn current() -> Self {
        // SAFETY: the helper takes nothing.
        Self(unsafe { bpf_get_current_task_btf() })
    }

    /// An argument of a typed tracepoint, by its number.
    #[inline(always)]
    pub fn argument(ctx: &BtfTracePointContext, number: usize) -> Self {
        Self(ctx.arg(number))
    }

    /// # Safety
    ///
    /// There is a field of type `T` at the offset.
    #[inline(always)]
    unsafe fn field<T: Copy>(self, offset: u64) -> T {
        // SAFETY: a task is there as long as its thread runs, or a tracepoint has it.
        unsafe {
            let field = self.0.cast::<u8>().add(offset as usize);
            field.cast::<T>().read_volatile()
        }
    }

    /// The thread's id as the kernel numbers it.
    #[inline(always)]
    pub fn tid(self) -> u32 {
        // SAFETY: the offset is that of `pid_t pid`.
        unsafe { self.field(task_pid_offset()) }
    }

    /// Whether it is a thread of the current one's process.
    #[inline(always)]
    pub fn is_of_current_process(self) -> bool {
        // SAFETY: the offset is that of `pid_t tgid`.
        let process = |task: Self| unsafe { task.field::<u32>(task_tgid_offset()) };
        process(self) == process(Self::current())
    }

    /// How long it has been on a CPU, in nanoseconds, up to the scheduler's last look.
    #[inline(always)]
    pub fn cpu_time(self) -> u64 {
        // SAFETY: the offset is that of `u64 se.sum_exec_runtime`.
        unsafe { self.field(task_cpu_time_offset()) }
    }

    /// Its state: 0 if it is ready to run.
    #[inline(always)]
    pub fn state(self) -> u32 {
        // SAFETY: the offset is that of `unsigned int __state` (Linux 5.14 and later).
        unsafe { self.field(task_state_offset()) }
    }

    /// Whether it is at its end: it never runs the user's code again, and soon has no memory that
    /// could be read (`do_exit` in `kernel/exit.c`).
    #[inline(always)]
    pub fn is_exiting(self) -> bool {
        // SAFETY: the offset is that of `unsigned int flags`.
        unsafe { self.field::<u32>(task_flags_offset()) & PF_EXITING != 0 }
    }

    /// Where the thread keeps its variables, as its registers say.
    #[inline(always)]
    pub fn thread_pointer(self) -> u64 {
        // SAFETY: the offset is that of `unsigned long thread.fsbase`.
        unsafe { self.field(task_fsbase_offset()) }
    }

    /// How far it lies from something, as a number. The verifier lets nobody calculate with a
    /// pointer, but for a difference of two.
    #[inline(always)]
    pub fn distance_from<T>(self, other: &T) -> u64 {
        (self.0 as u64).wrapping_sub(core::ptr::from_ref(other) as u64)
    }
}
