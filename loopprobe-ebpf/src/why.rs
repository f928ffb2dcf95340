//! Why a thread is off its CPU, as far as its system call does not say: what state it is in, who
//! has the CPU, who wakes it.

use aya_ebpf::helpers::{
    bpf_get_current_comm, bpf_probe_read_kernel,
    generated::{bpf_get_current_pid_tgid, bpf_get_current_task},
};
use loopprobe_common::{
    counters::Counter,
    records::{Kind, Reason, TakerRecord},
    thread::Thread,
};

use crate::{
    arch,
    maps::{self, EVENTS, config, count},
    saved,
    task_struct::{KernelTask, task_field},
    thread::current_tid,
};

/// What the kernel says of the current thread, which is going off its CPU of its own accord.
#[inline(never)]
pub fn reason() -> Reason {
    // SAFETY: the helper takes nothing.
    let task = unsafe { bpf_get_current_task() };
    let mut pressure = 0;
    if field(task, maps::task_memstall_offset()) & maps::task_memstall_mask() != 0 {
        pressure |= Reason::STALLED;
    }
    if field(task, maps::task_over_high_offset()) != 0 {
        pressure |= Reason::OVER_HIGH;
    }
    if word(task, maps::task_in_oom_offset()) != 0 {
        pressure |= Reason::IN_OOM;
    }
    Reason {
        // A wake-up on another CPU may have changed it already.
        state: match task_field(task, maps::task_state_offset()) {
            Some(0) | None => Reason::UNKNOWN,
            Some(state) => state,
        },
        flags: field(task, maps::task_flags_offset()),
        jobctl: word(task, maps::task_jobctl_offset()) as u32,
        pressure,
    }
}

/// What the current thread's descriptor `fd` stands for: the mode and the inode of its file. Both 0
/// if it stands for nothing.
#[inline(never)]
pub fn file(fd: u64) -> (u32, u64) {
    // More than any process may have open (`sysctl fs.nr_open`); other first arguments are
    // addresses.
    const MAX_FD: u64 = 1 << 20;
    let [files, fdt, table, inode, mode, number] = maps::file_path();
    // Descriptors are `int`; the register's upper half can hold anything.
    let fd = fd & 0xffff_ffff;
    if files == 0 || fd >= MAX_FD {
        return (0, 0);
    }
    // SAFETY: the helper takes nothing.
    let task = unsafe { bpf_get_current_task() };
    let table = word(word(word(task, files), fdt), table);
    let inode = word(pointer(table + fd * 8), inode);
    (pointer(inode + mode) as u32 & 0xffff, word(inode, number))
}

/// A field that not every kernel has: 0 where there is none.
#[inline(always)]
fn field(task: u64, offset: u64) -> u32 {
    if offset == 0 {
        return 0;
    }
    task_field(task, offset).unwrap_or(0)
}

#[inline(always)]
fn word(task: u64, offset: u64) -> u64 {
    if offset == 0 {
        return 0;
    }
    pointer(task + offset)
}

/// A word of the kernel's memory; 0 if it cannot be read.
#[inline(always)]
fn pointer(address: u64) -> u64 {
    // SAFETY: the helper fails on a bad address.
    unsafe { bpf_probe_read_kernel(address as *const u64) }.unwrap_or(0)
}

/// Whether the current thread, which stays ready to run, gives its CPU away itself.
#[inline(always)]
pub fn yields() -> bool {
    saved::syscall_number() == Some(arch::SYS_SCHED_YIELD)
}

/// The thread is back on a CPU for which it has waited for `waited_ns`. Says who has had it until
/// now: the current thread.
#[inline(never)]
pub fn had_cpu(tid: u32, thread: &Thread, waited_ns: u64) {
    let Some(config) = config(thread.target) else {
        return;
    };
    let taker = current_tid();
    // The idle thread has taken it from nobody.
    if waited_ns < config.min_block_ns || taker == 0 || taker == tid {
        return;
    }
    // A poll that begins only now has waited for nothing.
    let Some(poll) = thread
        .innermost()
        .filter(|poll| poll.start_ns <= thread.off_ns)
    else {
        return;
    };
    // SAFETY: the helper takes nothing.
    let task = unsafe { bpf_get_current_task() };
    let picked_ns = word(task, maps::task_picked_offset());
    let had_ns = KernelTask::current().cpu_time().saturating_sub(picked_ns);
    let Some(mut entry) = EVENTS.reserve::<TakerRecord>(0) else {
        count(thread.target, Counter::StackLost);
        return;
    };
    entry.write(TakerRecord {
        kind: Kind::Taker as u16,
        target: thread.target as u16,
        tid: thread.tid,
        poll_ns: poll.start_ns,
        waited_ns,
        had_ns: had_ns.min(waited_ns),
        // SAFETY: the helper takes nothing.
        process: (unsafe { bpf_get_current_pid_tgid() } >> 32) as u32,
        thread: taker,
        name: bpf_get_current_comm().unwrap_or_default(),
    });
    entry.submit(0);
}
