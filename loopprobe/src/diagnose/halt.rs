//! Why a thread that did not ask for it stood still: what the kernel says of it beside its system
//! call.

use loopprobe_common::records::Reason;

/// What stopped a thread from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halt {
    /// A signal; its number, where the kernel says it.
    Stopped {
        /// `SIGSTOP` and its relatives.
        signal: Option<u32>,
    },
    /// A debugger.
    Traced,
    /// The freezer of a control group.
    Frozen,
    /// The kernel, which wanted memory first.
    Reclaim {
        /// The limit of a control group was the reason.
        group: bool,
    },
    /// It runs, and gave its CPU away itself.
    Yields,
    /// It sleeps where a signal would wake it, outside any system call: not for a page.
    Elsewhere,
}

// States of a task (`include/linux/sched.h`, Linux 6.18).
const INTERRUPTIBLE: u32 = 0x1;
const STOPPED: u32 = 0x4;
const TRACED: u32 = 0x8;
const FROZEN: u32 = 0x8000; // Since Linux 6.1.

/// `PF_FROZEN` before Linux 6.1. Later it is set for kernel threads only, if at all.
const FLAG_FROZEN: u32 = 0x0001_0000;
/// `PF_MEMALLOC`: it frees memory for its own allocation.
const FLAG_MEMALLOC: u32 = 0x0000_0800;

// Bits of `jobctl` (`include/linux/sched/jobctl.h`, Linux 6.18).
const JOBCTL_SIGNAL: u32 = 0xffff;
const JOBCTL_FREEZE: u32 = 1 << 23;

impl Halt {
    /// What the kernel says; `None` if the system call or a page fault is reason enough.
    pub fn of(reason: &Reason, in_syscall: bool) -> Option<Self> {
        let state = |bits| reason.state & bits != 0;
        let signal = reason.jobctl & JOBCTL_SIGNAL;
        if state(FROZEN) || reason.flags & FLAG_FROZEN != 0 {
            return Some(Self::Frozen);
        }
        if state(TRACED) {
            return Some(Self::Traced);
        }
        if state(STOPPED) {
            return Some(Self::Stopped {
                signal: (signal != 0).then_some(signal),
            });
        }
        if reason.jobctl & JOBCTL_FREEZE != 0 && state(INTERRUPTIBLE) {
            return Some(Self::Frozen);
        }
        if reason.pressure != 0 || reason.flags & FLAG_MEMALLOC != 0 {
            return Some(Self::Reclaim {
                group: reason.pressure & (Reason::OVER_HIGH | Reason::IN_OOM) != 0,
            });
        }
        if reason.state == 0 {
            return in_syscall.then_some(Self::Yields);
        }
        (!in_syscall && state(INTERRUPTIBLE)).then_some(Self::Elsewhere)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(state: u32, jobctl: u32, pressure: u32, in_syscall: bool) -> Option<Halt> {
        Halt::of(
            &Reason {
                state,
                flags: 0,
                jobctl,
                pressure,
            },
            in_syscall,
        )
    }

    #[test]
    fn the_state_of_a_task_tells_what_stopped_it() {
        assert_eq!(
            of(0x104, 19, 0, false),
            Some(Halt::Stopped { signal: Some(19) })
        );
        assert_eq!(of(0x108, 0, 0, true), Some(Halt::Traced));
        assert_eq!(of(0x8000, 0, 0, false), Some(Halt::Frozen));
        assert_eq!(of(0x2001, 1 << 23, 0, false), Some(Halt::Frozen));
        assert_eq!(
            of(0x102, 0, Reason::IN_OOM, false),
            Some(Halt::Reclaim { group: true })
        );
        assert_eq!(
            of(0x2, 0, Reason::STALLED, true),
            Some(Halt::Reclaim { group: false })
        );
        assert_eq!(of(0x1, 0, 0, false), Some(Halt::Elsewhere));
        assert_eq!(of(0, 0, 0, true), Some(Halt::Yields));
        // An ordinary wait in a system call, and an ordinary page fault.
        assert_eq!(of(0x1, 0, 0, true), None);
        assert_eq!(of(0x2, 0, 0, false), None);
    }
}
