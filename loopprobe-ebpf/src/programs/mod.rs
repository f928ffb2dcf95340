//! The programs: what the kernel runs at a probe, a tracepoint or a sample.

mod baseline;
mod event_loop;
mod poll;
mod process;
mod registers;
mod sample;
mod sched;
mod schedule;

use core::ffi::c_void;

use aya_ebpf::{EbpfContext as _, programs::RawTracePointContext};

/// The arguments of a raw tracepoint.
#[inline(always)]
fn arguments<const N: usize>(ctx: &RawTracePointContext) -> [u64; N] {
    let args: *mut c_void = ctx.as_ptr();
    // SAFETY: the context of a raw tracepoint is an array of as many words as the tracepoint has
    // arguments, and each caller names its tracepoint's number of them.
    unsafe { *args.cast::<[u64; N]>() }
}
