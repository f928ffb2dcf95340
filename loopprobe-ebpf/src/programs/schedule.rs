//! The probe at what schedules a task, for the time from there to its poll.

use aya_ebpf::{
    EbpfContext as _,
    bindings::pt_regs,
    helpers::{bpf_probe_read_user, generated::bpf_get_attach_cookie},
    macros::uprobe,
    programs::ProbeContext,
};
use loopprobe_common::{cost::Part, wake::HeaderPlace};

use crate::{
    arch,
    clock::now,
    cost,
    maps::is_over,
    own_stack,
    thread::{current_tid, known, visible_tid},
    wake,
};

/// A task is scheduled: it is to be polled. The cookie says where its header is.
#[uprobe]
pub fn schedule_enter(ctx: ProbeContext) -> u32 {
    own_stack::of_thread(&ctx);
    let _ = try_schedule_enter(&ctx);
    0
}

#[inline(always)]
fn try_schedule_enter(ctx: &ProbeContext) -> Option<()> {
    cost::count(Part::Loop);
    // SAFETY: the context is the program's own.
    let place = HeaderPlace::of(unsafe { bpf_get_attach_cookie(ctx.as_ptr()) });
    // SAFETY: the context's registers are the thread's at the probe.
    let header = header(unsafe { &*ctx.regs }, &place)?;
    let now = now();
    if is_over(now) {
        return None;
    }
    // Not only threads that poll schedule tasks.
    match known(current_tid()) {
        Some(thread) => {
            cost::probe(thread);
            let poll_ns = thread.innermost().map_or(0, |poll| poll.start_ns);
            wake::scheduled(header, now, thread.tid, poll_ns);
        }
        None => wake::scheduled(header, now, visible_tid()?, 0),
    }
    Some(())
}

#[inline(always)]
fn header(regs: &pt_regs, place: &HeaderPlace) -> Option<u64> {
    if let Some((register, distance)) = place.guard {
        let address = arch::register(regs, register)?;
        let probe = arch::instruction_pointer(regs);
        if address != probe.wrapping_add(i64::from(distance) as u64) {
            return None;
        }
    }
    let value = arch::register(regs, place.register)?;
    match place.offset {
        None => Some(value),
        Some(offset) => {
            let address = value.wrapping_add(i64::from(offset) as u64);
            // SAFETY: the helper fails on a bad address.
            unsafe { bpf_probe_read_user(address as *const u64) }.ok()
        }
    }
}
