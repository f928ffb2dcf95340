//! From a long poll's time, stacks and system calls to its cause, the call to blame, and advice.
//!
//! [`diagnose`] is pure. What it needs of the live process (what a file descriptor stood for,
//! whether the control group was throttled) is collected beforehand by [`Objects`] and
//! [`CpuQuota`].

mod blame;
mod descriptors;
mod evidence;
mod facts;
mod futex;
mod halt;
mod locks;
mod moment;
mod object;
mod objects;
mod operation;
mod processes;
mod quota;
mod rules;
mod sockets;
mod stat;
mod syscall;
mod syscall_generic;
mod syscall_names;
#[cfg(test)]
mod tests;
mod time;
mod verdict;

pub(crate) use blame::blocking_call;
pub use descriptors::Descriptors;
pub use evidence::{PollEvidence, ReadyLoop, StackEvidence, Taker, ThrottleDelta, Waker, Work};
pub use halt::Halt;
pub use locks::Database;
pub use moment::Moment;
pub use object::{LockedFile, Object, Pipe, Socket};
pub use objects::{Objects, SeenFile};
pub use quota::CpuQuota;
pub use rules::{Colour, INSTEAD, Instead, RULES, Rule};
pub use syscall::RawSyscall;
pub(crate) use syscall::Waits;
pub use verdict::diagnose;
