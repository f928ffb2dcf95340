//! Which stack a probe's program runs on.

use aya_ebpf::{EbpfContext, macros::map, maps::ProgramArray};

use crate::maps::never;

/// Empty.
#[map]
static NOWHERE: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// Makes the program that it is called in run on its thread's kernel stack. Every uprobe's program
/// must call it.
///
/// From Linux 6.13 on, functions of tracing programs with 64 bytes of locals or more get a stack a
/// CPU (`bpf_enable_priv_stack` in `kernel/bpf/verifier.c`). That is safe where a program cannot
/// begin again on a CPU before it has ended there, which is guarded for kprobes and tracepoints. It
/// is not for uprobes (`uprobe_prog_run` in `kernel/trace/bpf_trace.c`), and their programs can be
/// preempted: two threads on one CPU then share a stack. Seen with 7.3.4 (`PREEMPT_LAZY`): a
/// pointer that was read back was another thread's 0, the kernel oopsed, and the target's thread
/// was gone. Programs with a tail call get no such stack. This one is never made, but the verifier
/// counts it before it finds that out.
#[inline(always)]
pub fn of_thread(ctx: &impl EbpfContext) {
    if never() {
        // SAFETY: the array is empty, so the program would go on.
        unsafe { NOWHERE.tail_call(ctx, 0) };
    }
}
