//! Registers of threads that are off their CPUs, on demand: for polls that began before the attach.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{seq_file, task_struct},
    helpers::generated::{bpf_seq_write, bpf_task_pt_regs},
};
use loopprobe_common::records::ThreadRegisters;

use crate::{arch, maps::task_pid_offset, saved::read_registers, task_struct::task_field};

/// What a task iterator's program is called with (`struct bpf_iter__task`,
/// `kernel/bpf/task_iter.c`, Linux 5.8).
#[repr(C)]
pub struct IterTask {
    meta: *const IterMeta,
    task: *mut task_struct,
}

#[repr(C)]
struct IterMeta {
    seq: *mut seq_file,
}

/// Writes the registers of one thread.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
pub extern "C" fn task_registers(ctx: *const IterTask) -> i32 {
    // SAFETY: the kernel calls this with a valid context, and the verifier checks each access.
    let (seq, task) = unsafe { ((*(*ctx).meta).seq, (*ctx).task) };
    if !task.is_null() {
        let _ = try_registers(seq, task);
    }
    0
}

#[inline(always)]
fn try_registers(seq: *mut seq_file, task: *mut task_struct) -> Option<()> {
    // SAFETY: the task is valid while the program runs.
    let regs = read_registers(unsafe { bpf_task_pt_regs(task) } as u64)?;
    let record = ThreadRegisters {
        tid: task_field(task as u64, task_pid_offset())?,
        reserved: 0,
        syscall: arch::syscall(&regs),
        args: arch::arguments(&regs),
        registers: arch::registers(&regs),
    };
    // SAFETY: the record is of the size given. If the buffer is full, the kernel calls again with a
    // larger one.
    unsafe {
        bpf_seq_write(
            seq,
            (&raw const record).cast::<c_void>().cast_mut(),
            size_of::<ThreadRegisters>() as u32,
        )
    };
    Some(())
}
