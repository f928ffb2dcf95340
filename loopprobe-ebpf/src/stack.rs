//! Records of user stacks, only inside polls and only as far as the poll's entry.

use aya_ebpf::helpers::{
    bpf_get_current_comm,
    generated::{bpf_ringbuf_output, bpf_ringbuf_query},
};
use loopprobe_common::{
    cost::Part,
    counters::Counter,
    light::Place,
    records::{
        Kind, QUESTION_BYTES, QUESTION_PIECES, Reason, STACK_BYTES, STACK_HEAD, STACK_PIECE_BYTES,
        STACK_SLOTS, StackRecord, StackSlot,
    },
    thread::Thread,
};

use crate::{
    arch, clock,
    copy::{copy, copy_at_once, copy_open, copy_outermost},
    cost,
    maps::{BESIDE, HELPERS, NO_WAKEUP, SLOTS, STACKS, config, count, stack_ring_bytes},
    root,
    saved::{read_user_registers, syscall_number, user_registers},
    task_struct::KernelTask,
    thread::{Visible, current_tid, visible},
    why,
};

/// So many samples of threads that help polls are sent after the end of a long wait at most, in
/// all.
const BESIDE_BUDGET: u32 = 256;

/// Keeps the stack of a thread that goes off its CPU.
#[inline(never)]
pub fn keep(tid: u32, thread: &mut Thread, now: u64) {
    let start_ns = clock::now();
    if let Some(slot) = slot(tid)
        && let Some(open) = open_since(thread)
        && fill(slot, Kind::OffCpu, &Visible::of(thread), &open, now).is_some()
    {
        if thread.off == Thread::OFF_BLOCKED {
            slot.record.reason = why::reason();
            let [first, ..] = slot.record.args;
            (slot.record.file_mode, slot.record.file_inode) = why::file(first);
        }
        thread.flags |= Thread::KEPT;
    }
    cost::each(thread.target, Part::Stack, start_ns);
}

/// Sends the stack of the current thread, which ends a wait of `woken`'s that was long, if it is a
/// thread of the same process that does so on purpose: it wakes a futex, or ends, for which
/// `pthread_join` waits. `waker` is what is known of it.
#[inline(never)]
pub fn send_waker(woken: &Thread, task: KernelTask, waker: Option<&Thread>) {
    let target = woken.target;
    let Some(config) = config(target) else {
        return;
    };
    let Some(poll) = woken.innermost() else {
        return;
    };
    let is_long = woken.woken_ns - woken.off_ns >= config.min_block_ns;
    let wakes = matches!(syscall_number(), Some(arch::SYS_FUTEX | arch::SYS_EXIT));
    if !is_long || !wakes || !task.is_of_current_process() {
        return;
    }
    let driver = waker.map_or((0, 0), |known| (known.driver_from_ns, known.driver_to_ns));
    let (Some(slot), Some(waker)) = (slot(current_tid()), visible()) else {
        return;
    };
    let open = Open {
        since_ns: poll.start_ns,
        ..Open::default()
    };
    if fill(
        slot,
        Kind::Waker,
        &Visible::of(woken),
        &open,
        woken.woken_ns,
    )
    .is_some()
    {
        slot.record.woken_ns = woken.off_ns;
        slot.record.waker = waker.tid;
        slot.record.comm = bpf_get_current_comm().unwrap_or_default();
        (slot.record.driver_from_ns, slot.record.driver_to_ns) = driver;
        send(slot, false);
        let _ = HELPERS.insert(&current_tid(), &woken.woken_ns, 0);
        let _ = BESIDE.set(target, &BESIDE_BUDGET, 0);
    }
    cost::each(target, Part::Stack, woken.woken_ns);
}

/// Asks user space whether the thread, which is at `place` with the stack pointer `sp`, is still in
/// its innermost poll.
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
        slot.record.target = thread.target as u16;
        slot.record.tid = thread.tid;
        slot.record.start_ns = now;
        send_pieces(slot, sp, end);
    }
    if fill(slot, Kind::Question, &Visible::of(thread), &open, now).is_some() {
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
        slot.record.kind = Kind::Piece as u16;
        slot.record.registers.sp = address;
        slot.record.len = len;
        send(slot, true);
    }
}

/// Sends the stack that was kept when the thread went off its CPU.
#[inline(always)]
pub fn send_kept(tid: u32, thread: &mut Thread, unsent_ns: u64, now: u64) {
    let start_ns = clock::now();
    let Some(slot) = slot(tid) else { return };
    if slot.record.tid != thread.tid || slot.record.start_ns != thread.off_ns {
        // Another thread with the same slot has been here in between.
        count(thread.target, Counter::StackLost);
        return;
    }
    slot.record.woken_ns = thread.woken_ns;
    slot.record.end_ns = now;
    slot.record.unsent_ns = unsent_ns;
    send_of(slot, thread);
    cost::each(thread.target, Part::Stack, start_ns);
}

/// Whether the current thread, which goes off its CPU with a loop of its own, waits for events as
/// a loop does: in `epoll_wait` or, without an I/O driver, in a futex. A lock and a channel wait in
/// a futex too; where its parking is probed, only the wait after the probe is the loop's.
#[inline(never)]
pub fn parks(thread: &mut Thread) -> bool {
    let Some(regs) = user_registers() else {
        return false;
    };
    let syscall = arch::syscall(&regs);
    if arch::is_epoll(syscall) {
        return true;
    }
    if syscall != arch::SYS_FUTEX || thread.flags & Thread::EPOLL != 0 {
        return false;
    }
    if thread.flags & (Thread::PARKS | Thread::LOCAL) != Thread::PARKS {
        return true;
    }
    let sp = arch::registers(&regs).sp;
    if thread.flags & Thread::PARKING != 0 {
        thread.flags &= !Thread::PARKING;
        thread.park_sp = sp;
    }
    sp == thread.park_sp
}

/// The poll or the root future's turn that is open on a thread.
#[derive(Default)]
pub struct Open {
    /// When it began.
    pub since_ns: u64,
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
pub fn open_since(thread: &Thread) -> Option<Open> {
    if let Some(poll) = thread.innermost() {
        return Some(Open {
            since_ns: poll.start_ns,
            entry_sp: poll.stack_pointer,
            task_id: poll.task_id,
            blocked_ns: thread.blocked_ns - poll.blocked_ns,
            runnable_ns: thread.runnable_ns - poll.runnable_ns,
        });
    }
    (thread.gap_ns != 0 && root::has_root(thread)).then_some(Open {
        since_ns: thread.gap_ns,
        entry_sp: 0,
        task_id: 0,
        blocked_ns: thread.blocked_ns - thread.gap_blocked_ns,
        runnable_ns: thread.runnable_ns - thread.gap_runnable_ns,
    })
}

#[inline(always)]
pub fn fill(slot: &mut StackSlot, kind: Kind, who: &Visible, open: &Open, now: u64) -> Option<()> {
    let entry_sp = open.entry_sp;
    // Their place is there anyway, and a program's own stack is small: 512 bytes for all functions
    // that are called. What another thread keeps in the slot is no longer whole then.
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
    record.kind = kind as u16;
    record.target = who.target as u16;
    record.tid = who.tid;
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
    record.comm = [0; 16];
    record.driver_from_ns = 0;
    record.driver_to_ns = 0;
    record.file_mode = 0;
    record.file_inode = 0;
    record.place = Place::default();
    record.entry_sp = entry_sp;
    record.task_id = open.task_id;
    record.syscall = arch::syscall(regs);
    record.args = arch::arguments(regs);
    record.registers = arch::registers(regs);
    // A scan, and a look at a thread beside polls, take threads as they are, also one that has just
    // been started and has no stack yet.
    let is_polls_own = kind as u16 != Kind::Scan as u16
        && kind as u16 != Kind::Waker as u16
        && kind as u16 != Kind::Beside as u16;
    // The return address of the poll lies at its entry stack pointer, so it is copied too.
    let wanted = (entry_sp + 8).wrapping_sub(sp);
    record.len = if whole {
        let most = if is_polls_own {
            STACK_BYTES
        } else {
            STACK_PIECE_BYTES
        };
        copy_open(&mut slot.bytes, sp, most)
    } else if kind as u16 == Kind::Question as u16 {
        // All of it can be read, unless it has been paged out. What is missing is not guessed: an
        // answer may end the poll.
        copy_at_once(&mut slot.bytes, sp, wanted).unwrap_or(0)
    } else {
        copy(&mut slot.bytes, sp, wanted)
    };
    if !whole && wanted > STACK_BYTES as u64 {
        copy_outermost(&mut slot.bytes, entry_sp + 8);
    }
    if record.len == 0 && is_polls_own && !KernelTask::current().is_exiting() {
        count(who.target, Counter::Unreadable);
    }
    Some(())
}

/// Sends the stack in a slot, which is one of the thread's open poll.
#[inline(always)]
pub fn send_of(slot: &mut StackSlot, thread: &mut Thread) {
    let poll_ns = slot.record.poll_ns;
    if send(slot, thread.sent_of_ns != poll_ns) {
        thread.sent_of_ns = poll_ns;
    }
}

/// Sends the stack in a slot. `is_first`: no other of the same poll was sent before.
#[inline(always)]
pub fn send(slot: &mut StackSlot, is_first: bool) -> bool {
    const AVAIL_DATA: u64 = 0; // BPF_RB_AVAIL_DATA
    const URGENT_KINDS: u32 = 1 << Kind::Question as u32 | 1 << Kind::OffCpu as u32;
    let quarter = stack_ring_bytes() / 4;
    let target = u32::from(slot.record.target);
    let ring = (&raw const STACKS).cast_mut().cast();
    // SAFETY: the helper only reads the ring buffer's positions (Linux 5.8).
    let waiting = unsafe { bpf_ringbuf_query(ring, AVAIL_DATA) };
    if waiting > 3 * quarter && !is_first {
        count(target, Counter::StackLost);
        return false;
    }
    // The records of polls wake user space; a wake-up for each sample as well would cost the target
    // more than the sample does. What a system call works on must be looked up before its
    // descriptor is closed. Without a branch: each multiplies the ways that the verifier follows.
    let is_of_kind = URGENT_KINDS >> (slot.record.kind & 31) & 1;
    let is_much = (quarter.wrapping_sub(waiting) >> 63) as u32;
    let is_urgent = is_of_kind | slot.record.in_kernel & 1 | is_much;
    // One more is BPF_RB_FORCE_WAKEUP.
    let flags = NO_WAKEUP + core::hint::black_box(u64::from(is_urgent));
    let mut len = core::hint::black_box(u64::from(slot.record.len));
    if len > STACK_BYTES as u64 {
        len = STACK_BYTES as u64;
    }
    let size = len + size_of::<StackRecord>() as u64;
    // SAFETY: the record and the bytes behind it are one map element, of which `size` bytes exist.
    let failed = unsafe { bpf_ringbuf_output(ring, core::ptr::from_mut(slot).cast(), size, flags) };
    if failed != 0 {
        count(target, Counter::StackLost);
    }
    slot.record.kind = 0;
    failed == 0
}

#[inline(always)]
pub fn slot(tid: u32) -> Option<&'static mut StackSlot> {
    let slot = SLOTS.get_ptr_mut(tid % STACK_SLOTS)?;
    // SAFETY: an array's elements live as long as the map. Two threads may share a slot: what they
    // write over each other is plain bytes, and `send_kept` sees whose they are.
    Some(unsafe { &mut *slot })
}
