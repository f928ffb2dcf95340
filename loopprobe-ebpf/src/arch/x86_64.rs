//! Registers and system calls of x86_64.

use aya_ebpf::bindings::pt_regs;
use loopprobe_common::records::Registers;

pub const SYS_FUTEX: i64 = 202;
const SYS_EPOLL_WAIT: i64 = 232;
const SYS_EPOLL_PWAIT: i64 = 281;
const SYS_EPOLL_PWAIT2: i64 = 441;

/// Whether a system call waits for events as an event loop does.
#[inline(always)]
pub fn is_epoll(syscall: i64) -> bool {
    matches!(syscall, SYS_EPOLL_WAIT | SYS_EPOLL_PWAIT | SYS_EPOLL_PWAIT2)
}

/// How much higher the stack pointer is behind a function's return than at its entry: the return address has been popped.
pub const POPPED: u64 = 8;

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

/// Whether the registers are the kernel's own: the lowest bits of the code segment are the privilege level.
#[inline(always)]
pub fn is_kernel(regs: &pt_regs) -> bool {
    regs.cs & 3 == 0
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

/// The part that uprobes see too.
#[inline(always)]
pub fn user(regs: &Saved) -> &pt_regs {
    regs
}
