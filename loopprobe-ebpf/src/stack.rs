//! Copies of user stacks, only inside polls and only as far as the poll's entry.

use aya_ebpf::{
    EbpfContext as _,
    bindings::bpf_perf_event_data,
    helpers::generated::{
        bpf_get_current_task_btf, bpf_probe_read_kernel, bpf_probe_read_user, bpf_ringbuf_output,
        bpf_ringbuf_query, bpf_task_pt_regs,
    },
    macros::perf_event,
    programs::PerfEventContext,
};
use loopprobe_common::{
    config::Config,
    cost::Part,
    counters::Counter,
    light::Place,
    records::{
        Kind, QUESTION_BYTES, QUESTION_PIECES, Reason, STACK_BYTES, STACK_HEAD, STACK_RING_BYTES,
        STACK_SLOTS, StackRecord, StackSlot,
    },
    thread::Thread,
};

use crate::{
    arch::{self, Saved},
    cost,
    maps::{BESIDE, CONFIG, HELPERS, SLOTS, STACKS, count},
    poll::now,
    sched, task,
    thread::{current_tid, known, scheduled, visible_tid},
    watch, why,
};

/// A sample of the thread on this CPU.
#[perf_event]
pub fn sample(ctx: PerfEventContext) -> u32 {
    let start_ns = now();
    let _ = try_sample(&ctx);
    if scheduled(current_tid()).is_some() {
        cost::each(Part::Sample, start_ns);
    }
    0
}

/// The same where the target's threads are watched instead of probed.
#[perf_event]
pub fn watch_sample(ctx: PerfEventContext) -> u32 {
    let start_ns = now();
    let Some(thread) = watch::current() else {
        return 0;
    };
    let is_during = |config: &Config| config.has_begun(start_ns) && !config.is_over(start_ns);
    if !CONFIG.get(0).is_some_and(is_during) {
        return 0;
    }
    sched::catch_up_current(thread, || start_ns);
    watch::look(thread, start_ns);
    let _ = try_sample(&ctx);
    cost::each(Part::Sample, start_ns);
    0
}

#[inline(always)]
fn try_sample(ctx: &PerfEventContext) -> Option<()> {
    let tid = current_tid();
    let config = CONFIG.get(0)?;
    if config.is_over(now()) {
        return None;
    }
    if let Some(thread) = known(tid) {
        sched::catch_up_current(thread, now);
        if let Some(poll) = thread.innermost_mut() {
            task::read_late(poll);
        }
    }
    if config.stacks == 0 {
        return None;
    }
    let now = now();
    match known(tid).and_then(|thread| open_since(thread).map(|open| (thread, open))) {
        Some((thread, open)) if now - open.since_ns >= config.sample_after_ns => {
            let slot = slot(tid)?;
            fill(slot, Kind::Sample, thread.tid, &open, now)?;
            slot.record.in_kernel = u32::from(is_in_kernel(ctx));
            send_of(slot, thread);
        }
        None if helps(tid, now) => {
            let slot = slot(tid)?;
            fill(slot, Kind::Beside, visible_tid()?, &Open::default(), now)?;
            send(slot, false);
        }
        None if config.scan != 0 => {
            let slot = slot(tid)?;
            fill(slot, Kind::Scan, visible_tid()?, &Open::default(), now)?;
            send(slot, false);
        }
        _ => {}
    }
    Some(())
}

/// So many samples of threads that help polls are sent after the end of a long wait at most, in all.
const BESIDE_BUDGET: u32 = 256;

/// A thread that has ended no long wait of a poll for this long helps no more.
const HELPS_NS: u64 = 5_000_000_000;

/// Whether a thread that is in no poll is worth a sample: what it does may be what polls wait for.
#[inline(always)]
fn helps(tid: u32, now: u64) -> bool {
    let Some(left) = BESIDE.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: an array's elements live as long as the map. Another CPU may take from it at the same time; then a sample more is sent.
    let left = unsafe { &mut *left };
    // SAFETY: the value is a plain number.
    let last_ns = unsafe { HELPERS.get(&tid) }.copied();
    let helps = *left > 0 && last_ns.is_some_and(|last_ns| now < last_ns + HELPS_NS);
    *left = left.saturating_sub(u32::from(helps));
    helps
}

/// Whether the sample interrupted the kernel.
#[inline(always)]
fn is_in_kernel(ctx: &PerfEventContext) -> bool {
    let data: *const bpf_perf_event_data = ctx.as_ptr().cast();
    // SAFETY: that is what the kernel calls such programs with (`include/uapi/linux/bpf_perf_event.h`).
    arch::is_kernel(unsafe { &(*data).regs })
}

/// Keeps the stack of a thread that goes off its CPU.
#[inline(never)]
pub fn keep(tid: u32, thread: &mut Thread, now: u64) {
    let start_ns = crate::poll::now();
    if let Some(slot) = slot(tid)
        && let Some(open) = open_since(thread)
        && fill(slot, Kind::OffCpu, thread.tid, &open, now).is_some()
    {
        if thread.off == Thread::OFF_BLOCKED {
            slot.record.reason = why::reason();
            let [first, ..] = slot.record.args;
            (slot.record.file_mode, slot.record.file_inode) = why::file(first);
        }
        thread.flags |= Thread::KEPT;
    }
    cost::each(Part::Stack, start_ns);
}

/// Sends the stack of the current thread, which ends a wait of `woken`'s that was long, if it is a thread of the same process that
/// does so on purpose.
#[inline(never)]
pub fn send_waker(woken: &Thread, task: u64) {
    let Some(config) = CONFIG.get(0) else { return };
    let Some(poll) = woken.innermost() else {
        return;
    };
    let is_long = woken.woken_ns - woken.off_ns >= config.min_block_ns;
    if !is_long || syscall_number() != Some(arch::SYS_FUTEX) || !sched::is_of_current(task) {
        return;
    }
    let (Some(slot), Some(waker)) = (slot(current_tid()), visible_tid()) else {
        return;
    };
    let open = Open {
        since_ns: poll.start_ns,
        ..Open::default()
    };
    if fill(slot, Kind::Waker, woken.tid, &open, woken.woken_ns).is_some() {
        slot.record.woken_ns = woken.off_ns;
        slot.record.waker = waker;
        send(slot, false);
        let _ = HELPERS.insert(&current_tid(), &woken.woken_ns, 0);
        let _ = BESIDE.set(0, &BESIDE_BUDGET, 0);
    }
    cost::each(Part::Stack, woken.woken_ns);
}

/// The number of the system call that the current thread is in.
#[inline(always)]
pub fn syscall_number() -> Option<i64> {
    // SAFETY: the helpers give the current task's saved registers, and fail on a bad address.
    unsafe {
        let saved = bpf_task_pt_regs(bpf_get_current_task_btf()) as u64;
        let place = (saved + arch::SYSCALL_OFFSET) as *const i64;
        aya_ebpf::helpers::bpf_probe_read_kernel(place).ok()
    }
}

/// Asks user space whether the thread, which is at `place` with the stack pointer `sp`, is still in its innermost poll.
#[inline(never)]
pub fn ask(thread: &Thread, place: &Place, sp: u64, now: u64) {
    let Some(slot) = slot(thread.kernel_tid) else {
        return;
    };
    let Some(open) = open_since(thread) else {
        return;
    };
    let end = open.entry_sp + 8;
    if end - sp > STACK_BYTES as u64 && end - sp <= QUESTION_BYTES {
        slot.record.tid = thread.tid;
        slot.record.start_ns = now;
        send_pieces(slot, sp, end);
    }
    if fill(slot, Kind::Question, thread.tid, &open, now).is_some() {
        slot.record.place = *place;
        slot.record.flags = thread.flags;
        slot.record.depth = thread.depth;
        send(slot, true);
    }
}

/// Sends what lies further from the stack pointer than a record holds.
#[inline(never)]
fn send_pieces(slot: &mut StackSlot, sp: u64, end: u64) {
    for piece in 0..QUESTION_PIECES {
        let address = sp + STACK_HEAD as u64 + piece * STACK_BYTES as u64;
        if address >= end {
            return;
        }
        // Without it the stack cannot be walked, and user space answers so.
        let Some(len) = copy_at_once(&mut slot.bytes, address, end - address) else {
            return;
        };
        slot.record.kind = Kind::Piece as u32;
        slot.record.registers.sp = address;
        slot.record.len = len;
        send(slot, true);
    }
}

/// Sends the stack that was kept when the thread went off its CPU.
#[inline(always)]
pub fn send_kept(tid: u32, thread: &mut Thread, unsent_ns: u64, now: u64) {
    let start_ns = crate::poll::now();
    let Some(slot) = slot(tid) else { return };
    if slot.record.tid != thread.tid || slot.record.start_ns != thread.off_ns {
        // Another thread with the same slot has been here in between.
        count(Counter::StackLost);
        return;
    }
    slot.record.woken_ns = thread.woken_ns;
    slot.record.end_ns = now;
    slot.record.unsent_ns = unsent_ns;
    send_of(slot, thread);
    cost::each(Part::Stack, start_ns);
}

/// Whether the current thread, which goes off its CPU, waits for events as an event loop does.
#[inline(never)]
pub fn waits_for_events(futex_too: bool) -> bool {
    let Some(regs) = user_registers() else {
        return false;
    };
    let syscall = arch::syscall(&regs);
    arch::is_epoll(syscall) || (futex_too && syscall == arch::SYS_FUTEX)
}

/// The poll or the root future's turn that is open on a thread.
#[derive(Default)]
struct Open {
    since_ns: u64,
    /// The stack pointer at its entry; 0 if unknown.
    entry_sp: u64,
    /// The task's number, if it is known.
    task_id: u64,
    /// How long it has been blocked.
    blocked_ns: u64,
    /// How long it has been ready without a CPU.
    runnable_ns: u64,
}

#[inline(always)]
fn open_since(thread: &Thread) -> Option<Open> {
    if let Some(poll) = thread.innermost() {
        return Some(Open {
            since_ns: poll.start_ns,
            entry_sp: poll.stack_pointer,
            task_id: poll.task_id,
            blocked_ns: thread.blocked_ns - poll.blocked_ns,
            runnable_ns: thread.runnable_ns - poll.runnable_ns,
        });
    }
    (thread.gap_ns != 0 && crate::root::has_root(thread)).then_some(Open {
        since_ns: thread.gap_ns,
        entry_sp: 0,
        task_id: 0,
        blocked_ns: thread.blocked_ns - thread.gap_blocked_ns,
        runnable_ns: thread.runnable_ns - thread.gap_runnable_ns,
    })
}

#[inline(always)]
fn fill(slot: &mut StackSlot, kind: Kind, tid: u32, open: &Open, now: u64) -> Option<()> {
    let entry_sp = open.entry_sp;
    // Their place is there anyway, and a program's own stack is small: 512 bytes for all functions that are called. What another
    // thread keeps in the slot is no longer whole then.
    slot.record.tid = 0;
    let regs = read_user_registers(&mut slot.bytes)?;
    let sp = arch::stack_pointer(arch::user(regs));
    let above = sp > entry_sp;
    if entry_sp != 0 && above && sp - entry_sp <= arch::POPPED {
        // The poll function has returned; its return probe is just being handled.
        return None;
    }
    // Further above lies another stack: a coroutine's, or one for signals.
    let whole = entry_sp == 0 || above;
    let record = &mut slot.record;
    record.kind = kind as u32;
    record.tid = tid;
    record.poll_ns = open.since_ns;
    record.start_ns = now;
    record.woken_ns = 0;
    record.end_ns = 0;
    record.unsent_ns = 0;
    record.blocked_ns = open.blocked_ns;
    record.runnable_ns = open.runnable_ns;
    record.in_kernel = 0;
    record.reason = Reason::default();
    record.waker = 0;
    record.file_mode = 0;
    record.file_inode = 0;
    record.place = Place::default();
    record.entry_sp = entry_sp;
    record.task_id = open.task_id;
    record.syscall = arch::syscall(regs);
    record.args = arch::arguments(regs);
    record.registers = arch::registers(regs);
    // The return address of the poll lies at its entry stack pointer, so it is copied too.
    let wanted = if whole {
        STACK_BYTES as u64
    } else {
        (entry_sp + 8).wrapping_sub(sp)
    };
    // A question's stack reaches to an entry that is known, so all of it can be read, unless it has been paged out.
    record.len = if kind as u32 == Kind::Question as u32 {
        copy_at_once(&mut slot.bytes, sp, wanted).unwrap_or(0)
    } else {
        copy(&mut slot.bytes, sp, wanted)
    };
    if !whole && wanted > STACK_BYTES as u64 {
        copy_outermost(&mut slot.bytes, entry_sp + 8);
    }
    // A scan, and a look at a thread beside polls, take threads as they are, also one that has just been started and has no stack yet.
    let is_polls_own = kind as u32 != Kind::Scan as u32
        && kind as u32 != Kind::Waker as u32
        && kind as u32 != Kind::Beside as u32;
    if record.len == 0 && is_polls_own {
        count(Counter::Unreadable);
    }
    Some(())
}

/// Copies up to `wanted` bytes from the user's `address`; returns how many.
#[inline(always)]
fn copy(bytes: &mut [u8; STACK_BYTES], address: u64, wanted: u64) -> u32 {
    match copy_at_once(bytes, address, wanted) {
        Some(len) => len,
        None => copy_to_end(bytes, address),
    }
}

/// The same, if all of them can be read. The verifier follows every way through [`copy_to_end`], which is dear.
#[inline(always)]
fn copy_at_once(bytes: &mut [u8; STACK_BYTES], address: u64, wanted: u64) -> Option<u32> {
    let mut len = core::hint::black_box(wanted);
    if len > STACK_BYTES as u64 {
        len = STACK_BYTES as u64;
    }
    // SAFETY: the helper writes at most `len` bytes, which fit, and fails on a bad address.
    let failed =
        unsafe { bpf_probe_read_user(bytes.as_mut_ptr().cast(), len as u32, address as *const _) };
    (failed == 0).then_some(len as u32)
}

/// Puts the outermost part of a stack, which ends at `end`, behind the innermost [`STACK_HEAD`] bytes.
#[inline(always)]
fn copy_outermost(bytes: &mut [u8; STACK_BYTES], end: u64) {
    const TAIL: usize = STACK_BYTES - STACK_HEAD;
    let Some(place) = bytes.get_mut(STACK_HEAD..) else {
        return;
    };
    // SAFETY: the helper writes `TAIL` bytes, which fit, zeros if the address is bad.
    unsafe {
        bpf_probe_read_user(
            place.as_mut_ptr().cast(),
            TAIL as u32,
            (end - TAIL as u64) as *const _,
        )
    };
}

/// The size of a page: memory ends with one.
const PAGE: usize = 4096;

/// Copies what is left of a stack that ends within [`STACK_BYTES`]: to the page's end, then by ever smaller pieces.
#[inline(never)]
fn copy_to_end(bytes: &mut [u8; STACK_BYTES], address: u64) -> u32 {
    let first = core::hint::black_box(PAGE as u64 - address % PAGE as u64) as usize;
    let mut copied = copy_piece(bytes, 0, first, address);
    let mut piece = STACK_BYTES / 2;
    while piece >= PAGE && copied != 0 {
        copied += copy_piece(bytes, core::hint::black_box(copied), piece, address);
        piece /= 2;
    }
    copied as u32
}

/// Copies `len` bytes, at most half of the stack's, from `at` behind the user's `address`; returns how many.
#[inline(always)]
fn copy_piece(bytes: &mut [u8; STACK_BYTES], at: usize, len: usize, address: u64) -> usize {
    if at > STACK_BYTES / 2 + STACK_BYTES / 4 + STACK_BYTES / 8 || len > STACK_BYTES / 2 {
        return 0;
    }
    let Some(place) = bytes.get_mut(at..at + len) else {
        return 0;
    };
    // SAFETY: the helper writes `len` bytes, which fit, and fails on a bad address.
    let failed = unsafe {
        bpf_probe_read_user(
            place.as_mut_ptr().cast(),
            len as u32,
            (address + at as u64) as *const _,
        )
    };
    if failed == 0 { len } else { 0 }
}

/// Sends the stack in a slot, which is one of the thread's open poll.
#[inline(always)]
fn send_of(slot: &mut StackSlot, thread: &mut Thread) {
    let poll_ns = slot.record.poll_ns;
    if send(slot, thread.sent_of_ns != poll_ns) {
        thread.sent_of_ns = poll_ns;
    }
}

/// Sends the stack in a slot. `is_first`: no other of the same poll was sent before.
#[inline(always)]
fn send(slot: &mut StackSlot, is_first: bool) -> bool {
    const AVAIL_DATA: u64 = 0; // BPF_RB_AVAIL_DATA
    const NO_WAKEUP: u64 = 1; // BPF_RB_NO_WAKEUP; one more is BPF_RB_FORCE_WAKEUP
    const URGENT_KINDS: u32 = 1 << Kind::Question as u32 | 1 << Kind::OffCpu as u32;
    const QUARTER: u64 = STACK_RING_BYTES as u64 / 4;
    let ring = (&raw const STACKS).cast_mut().cast();
    // SAFETY: the helper only reads the ring buffer's positions (Linux 5.8).
    let waiting = unsafe { bpf_ringbuf_query(ring, AVAIL_DATA) };
    if waiting > 3 * QUARTER && !is_first {
        count(Counter::StackLost);
        return false;
    }
    // The records of polls wake user space; a wake-up for each sample as well would cost the target more than the sample does. What
    // a system call works on must be looked up before its descriptor is closed. Without a branch: each multiplies the ways that the
    // verifier follows.
    let is_of_kind = URGENT_KINDS >> (slot.record.kind & 31) & 1;
    let is_much = (QUARTER.wrapping_sub(waiting) >> 63) as u32;
    let is_urgent = is_of_kind | slot.record.in_kernel & 1 | is_much;
    let flags = NO_WAKEUP + core::hint::black_box(u64::from(is_urgent));
    let mut len = core::hint::black_box(u64::from(slot.record.len));
    if len > STACK_BYTES as u64 {
        len = STACK_BYTES as u64;
    }
    let size = len + size_of::<StackRecord>() as u64;
    // SAFETY: the record and the bytes behind it are one map element, of which `size` bytes exist.
    let failed = unsafe { bpf_ringbuf_output(ring, core::ptr::from_mut(slot).cast(), size, flags) };
    if failed != 0 {
        count(Counter::StackLost);
    }
    slot.record.kind = 0;
    failed == 0
}

#[inline(always)]
fn slot(tid: u32) -> Option<&'static mut StackSlot> {
    let slot = SLOTS.get_ptr_mut(tid % STACK_SLOTS)?;
    // SAFETY: an array's elements live as long as the map. Two threads may share a slot: what they write over each other is
    // plain bytes, and `send_kept` sees whose they are.
    Some(unsafe { &mut *slot })
}

/// The registers that the current thread's user code had when it entered the kernel.
#[inline(always)]
pub fn user_registers() -> Option<Saved> {
    // SAFETY: the helpers give the current task's saved registers (Linux 5.15, `kernel/trace/bpf_trace.c`).
    read_registers(unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) } as u64)
}

/// The same, copied to where the stack will be.
#[inline(always)]
fn read_user_registers(bytes: &mut [u8; STACK_BYTES]) -> Option<&Saved> {
    // SAFETY: as above; the bytes are those of a map element, aligned to words, and more than registers are.
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
