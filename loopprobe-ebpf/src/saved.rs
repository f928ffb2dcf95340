//! The registers that a thread's user code had when it entered the kernel.

use aya_ebpf::helpers::generated::{
    bpf_get_current_task_btf, bpf_probe_read_kernel, bpf_task_pt_regs,
};
use loopprobe_common::records::STACK_BYTES;

use crate::arch::{self, Saved};

/// The registers that the current thread's user code had when it entered the kernel.
#[inline(always)]
pub fn user_registers() -> Option<Saved> {
    // SAFETY: the helpers give the current task's saved registers (Linux 5.15,
    // `kernel/trace/bpf_trace.c`).
    read_registers(unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) } as u64)
}

/// The same, copied to where the stack will be.
#[inline(always)]
pub fn read_user_registers(bytes: &mut [u8; STACK_BYTES]) -> Option<&Saved> {
    // SAFETY: as above; the bytes are those of a map element, aligned to words, and more than
    // registers are.
    unsafe {
        let saved = bpf_task_pt_regs(bpf_get_current_task_btf());
        let place = bytes.as_mut_ptr();
        let failed = bpf_probe_read_kernel(
            place.cast(),
            size_of::<Saved>() as u32,
            (saved as u64) as *const _,
        );
        (failed == 0).then(|| &*place.cast::<Saved>())
    }
}

/// Copies saved registers.
#[inline(always)]
pub fn read_registers(saved: u64) -> Option<Saved> {
    let mut regs = core::mem::MaybeUninit::<Saved>::uninit();
    // SAFETY: the helper fails on a bad address and else fills `regs`.
    unsafe {
        let failed = bpf_probe_read_kernel(
            regs.as_mut_ptr().cast(),
            size_of::<Saved>() as u32,
            saved as *const _,
        );
        (failed == 0).then(|| regs.assume_init())
    }
}

/// The number of the system call that the current thread is in.
#[inline(always)]
pub fn syscall_number() -> Option<i64> {
    // SAFETY: the helpers give the current task's saved registers, and fail on a bad address.
    unsafe {
        let saved = bpf_task_pt_regs(bpf_get_current_task_btf()) as u64;
        let place = (saved + arch::SYSCALL_OFFSET) as *const arch::SyscallNumber;
        let number = aya_ebpf::helpers::bpf_probe_read_kernel(place).ok()?;
        Some(i64::from(number))
    }
}
