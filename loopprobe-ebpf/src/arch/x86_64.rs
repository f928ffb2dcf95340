//! Registers and system calls of x86_64.

use aya_ebpf::bindings::pt_regs;
use loopprobe_common::records::Registers;

pub const SYS_FUTEX: i64 = 202;
/// `exit`, of one thread.
pub const SYS_EXIT: i64 = 60;
pub const SYS_SCHED_YIELD: i64 = 24;
const SYS_EPOLL_WAIT: i64 = 232;
const SYS_EPOLL_PWAIT: i64 = 281;
const SYS_EPOLL_PWAIT2: i64 = 441;

/// Whether a system call waits for events as an event loop does.
#[inline(always)]
pub fn is_epoll(syscall: i64) -> bool {
    matches!(syscall, SYS_EPOLL_WAIT | SYS_EPOLL_PWAIT | SYS_EPOLL_PWAIT2)
}

/// How much higher the stack pointer is behind a function's return than at its entry: the return
/// address has been popped.
pub const POPPED: u64 = 8;

/// How far behind a breakpoint the instruction pointer is until `handle_swbp`
/// (`kernel/events/uprobes.c`) puts it back, in bytes.
pub const TRAPPED: u64 = 1;

/// What the kernel saves when it is entered.
pub type Saved = pt_regs;

/// The stack pointer.
#[inline(always)]
pub fn stack_pointer(regs: &pt_regs) -> u64 {
    regs.rsp
}

/// Where the next instruction lies.
#[inline(always)]
pub fn instruction_pointer(regs: &pt_regs) -> u64 {
    regs.rip
}

/// Whether the registers are the kernel's own: the lowest bits of the code segment are the
/// privilege level.
#[inline(always)]
pub fn is_kernel(regs: &pt_regs) -> bool {
    regs.cs & 3 == 0
}

/// A general-purpose register by the number that instructions have for it: rax, rcx, rdx, rbx,
/// rsp, rbp, rsi, rdi, r8 to r15.
#[inline(always)]
pub fn register(regs: &pt_regs, number: u32) -> Option<u64> {
    // The compiler must not make one load of these, from an address that it has chosen: the
    // verifier knows a program's context by fixed offsets only.
    let own = core::hint::black_box::<u64>;
    Some(match number {
        0 => own(regs.rax),
        1 => own(regs.rcx),
        2 => own(regs.rdx),
        3 => own(regs.rbx),
        5 => own(regs.rbp),
        6 => own(regs.rsi),
        7 => own(regs.rdi),
        8 => own(regs.r8),
        9 => own(regs.r9),
        10 => own(regs.r10),
        11 => own(regs.r11),
        12 => own(regs.r12),
        13 => own(regs.r13),
        14 => own(regs.r14),
        15 => own(regs.r15),
        _ => return None,
    })
}

/// The registers that a called function need not restore, which hold its arguments and whatever was
/// done last, as one number.
#[inline(always)]
pub fn scratch(regs: &pt_regs) -> u64 {
    let all = super::mix(0, regs.rax);
    let all = super::mix(all, regs.rcx);
    let all = super::mix(all, regs.rdx);
    let all = super::mix(all, regs.rsi);
    let all = super::mix(all, regs.rdi);
    let all = super::mix(all, regs.r8);
    let all = super::mix(all, regs.r9);
    let all = super::mix(all, regs.r10);
    super::mix(all, regs.r11)
}

/// Who called the function at whose entry the registers are.
#[inline(always)]
pub fn caller(regs: &pt_regs) -> Option<u64> {
    // SAFETY: the helper fails on a bad address.
    unsafe { aya_ebpf::helpers::bpf_probe_read_user(regs.rsp as *const u64) }.ok()
}

/// The number of the system call that the thread is in, or -1.
#[inline(always)]
pub fn syscall(regs: &Saved) -> i64 {
    regs.orig_rax as i64
}

/// What holds the number of the system call.
pub type SyscallNumber = i64;

/// Where the number of the system call lies in the saved registers.
pub const SYSCALL_OFFSET: u64 = core::mem::offset_of!(Saved, orig_rax) as u64;

/// The system call's arguments.
#[inline(always)]
pub fn arguments(regs: &Saved) -> [u64; 6] {
    [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9]
}

/// The registers that an unwinder needs.
#[inline(always)]
pub fn registers(regs: &Saved) -> Registers {
    Registers {
        ip: regs.rip,
        sp: regs.rsp,
        bp: regs.rbp,
        general: [
            regs.rax, regs.rbx, regs.rcx, regs.rdx, regs.rsi, regs.rdi, regs.r8, regs.r9, regs.r10,
            regs.r11, regs.r12, regs.r13, regs.r14, regs.r15,
        ],
    }
}

/// Code that the kernel lends to a process for its probes; each begins a page of its own.
pub enum Lent {
    /// None of it.
    No,
    /// What a probed function returns to.
    Return,
    /// A probed instruction, on its own.
    Instruction,
    /// What a probed `nop` calls.
    Call,
}

/// Whether an address is in such code, by what the page begins with (`arch/x86/kernel/uprobes.c`):
/// `uretprobe_trampoline_entry` (`push %rax; push %rcx; push %r11; mov $335, %rax`, Linux 6.11) or
/// a lone breakpoint (before), and behind it slots of 128 bytes for instructions;
/// `uprobe_trampoline_entry` (`push %rcx; push %r11; push %rax; mov $336, %rax`, Linux 6.18).
#[inline(always)]
pub fn lent(address: u64) -> Lent {
    const PAGE: u64 = 4096;
    const SLOT: u64 = 128;
    const RETURN: u64 = u64::from_le_bytes([0x50, 0x51, 0x41, 0x53, 0x48, 0xc7, 0xc0, 0x4f]);
    const BREAKPOINT: u64 = 0xcc;
    const CALL: u64 = u64::from_le_bytes([0x51, 0x41, 0x53, 0x50, 0x48, 0xc7, 0xc0, 0x50]);
    let page = address & !(PAGE - 1);
    // SAFETY: the helper fails on a bad address.
    let first = unsafe { aya_ebpf::helpers::bpf_probe_read_user(page as *const u64) };
    match first {
        Ok(RETURN | BREAKPOINT) if address - page >= SLOT => Lent::Instruction,
        Ok(RETURN | BREAKPOINT) => Lent::Return,
        Ok(CALL) => Lent::Call,
        _ => Lent::No,
    }
}

/// The part that uprobes see too.
#[inline(always)]
pub fn user(regs: &Saved) -> &pt_regs {
    regs
}
