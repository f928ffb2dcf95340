//! Registers and system calls of aarch64.

use aya_ebpf::bindings::pt_regs;
use loopprobe_common::records::Registers;

// `include/uapi/asm-generic/unistd.h` (Linux 6.18). There is no `epoll_wait`.
pub const SYS_FUTEX: i64 = 98;
/// `exit`, of one thread.
pub const SYS_EXIT: i64 = 93;
pub const SYS_SCHED_YIELD: i64 = 124;
const SYS_EPOLL_PWAIT: i64 = 22;
const SYS_EPOLL_PWAIT2: i64 = 441;

/// Whether a system call waits for events as an event loop does.
#[inline(always)]
pub fn is_epoll(syscall: i64) -> bool {
    matches!(syscall, SYS_EPOLL_PWAIT | SYS_EPOLL_PWAIT2)
}

/// How much higher the stack pointer is behind a function's return than at its entry: the return
/// address is in a register.
pub const POPPED: u64 = 0;

/// How far behind a breakpoint the instruction pointer is until it is handled: not at all.
pub const TRAPPED: u64 = 0;

/// What the kernel saves when it is entered: the beginning of `struct pt_regs` in
/// `arch/arm64/include/asm/ptrace.h` (Linux 5.15 to 6.18).
#[repr(C)]
pub struct Saved {
    user: pt_regs,
    orig_x0: u64,
    syscall: i32,
}

/// The stack pointer.
#[inline(always)]
pub fn stack_pointer(regs: &pt_regs) -> u64 {
    regs.sp
}

/// Where the next instruction lies.
#[inline(always)]
pub fn instruction_pointer(regs: &pt_regs) -> u64 {
    regs.pc
}

/// Whether the registers are the kernel's own: the lowest bits of the processor's state are the
/// exception level, 0 for users.
#[inline(always)]
pub fn is_kernel(regs: &pt_regs) -> bool {
    regs.pstate & 0xf != 0
}

/// A register that an argument may lie in: x0 to x7.
#[inline(always)]
pub fn register(regs: &pt_regs, number: u32) -> Option<u64> {
    // The compiler must not make one load of these, from an address that it has chosen: the
    // verifier knows a program's context by fixed offsets only.
    let own = core::hint::black_box::<u64>;
    Some(match number {
        0 => own(regs.regs[0]),
        1 => own(regs.regs[1]),
        2 => own(regs.regs[2]),
        3 => own(regs.regs[3]),
        4 => own(regs.regs[4]),
        5 => own(regs.regs[5]),
        6 => own(regs.regs[6]),
        7 => own(regs.regs[7]),
        _ => return None,
    })
}

/// Half of the registers that a called function need not restore, which hold its arguments and
/// whatever was done last, as one number.
#[inline(always)]
pub fn scratch(regs: &pt_regs) -> u64 {
    let x = &regs.regs;
    let all = super::mix(0, x[0]);
    let all = super::mix(all, x[1]);
    let all = super::mix(all, x[2]);
    let all = super::mix(all, x[3]);
    let all = super::mix(all, x[8]);
    let all = super::mix(all, x[9]);
    let all = super::mix(all, x[10]);
    let all = super::mix(all, x[11]);
    super::mix(all, x[12])
}

/// Who called the function at whose entry the registers are.
#[inline(always)]
pub fn caller(regs: &pt_regs) -> Option<u64> {
    Some(regs.regs[30])
}

/// The number of the system call that the thread is in, or -1.
#[inline(always)]
pub fn syscall(regs: &Saved) -> i64 {
    i64::from(regs.syscall)
}

/// What holds the number of the system call.
pub type SyscallNumber = i32;

/// Where the number of the system call lies in the saved registers.
pub const SYSCALL_OFFSET: u64 = core::mem::offset_of!(Saved, syscall) as u64;

/// The system call's arguments. The first register is where the result will be.
#[inline(always)]
pub fn arguments(regs: &Saved) -> [u64; 6] {
    let [_, x1, x2, x3, x4, x5, ..] = regs.user.regs;
    [regs.orig_x0, x1, x2, x3, x4, x5]
}

/// The registers that an unwinder needs: `bp` is the frame pointer, the first general one the link
/// register, and behind it are those that a called function must restore.
#[inline(always)]
pub fn registers(regs: &Saved) -> Registers {
    let x = &regs.user.regs;
    Registers {
        ip: regs.user.pc,
        sp: regs.user.sp,
        bp: x[29],
        general: [
            x[30], x[19], x[20], x[21], x[22], x[23], x[24], x[25], x[26], x[27], x[28], x[0],
            x[1], x[2],
        ],
    }
}

/// Code that the kernel lends to a process for its probes, all in one page.
pub enum Lent {
    /// None of it.
    No,
    /// What a probed function returns to.
    Return,
    /// A probed instruction, on its own.
    Instruction,
    /// What a probed instruction calls.
    #[expect(dead_code, reason = "there is no such code on this processor")]
    Call,
}

/// Whether an address is in such code, by what the page begins with: the breakpoint of uprobes
/// (`BRK64_OPCODE_UPROBES`, `arch/arm64/include/asm/debug-monitors.h`) that probed functions return
/// to (`arch_uretprobe_trampoline` in `kernel/events/uprobes.c`), and behind it slots of an
/// instruction each (`UPROBE_XOL_SLOT_BYTES`; Linux 5.15 to 6.18).
#[inline(always)]
pub fn lent(address: u64) -> Lent {
    const PAGE: u64 = 4096;
    const SLOT: u64 = 4;
    const BREAKPOINT: u32 = 0xd420_00a0;
    let page = address & !(PAGE - 1);
    // SAFETY: the helper fails on a bad address.
    let first = unsafe { aya_ebpf::helpers::bpf_probe_read_user(page as *const u32) };
    match first {
        Ok(BREAKPOINT) if address - page >= SLOT => Lent::Instruction,
        Ok(BREAKPOINT) => Lent::Return,
        _ => Lent::No,
    }
}

/// The part that uprobes see too.
#[inline(always)]
pub fn user(regs: &Saved) -> &pt_regs {
    &regs.user
}
