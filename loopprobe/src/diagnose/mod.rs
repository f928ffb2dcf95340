//! From a long poll's time, stacks and system calls to its cause, the call to blame, and advice.
//!
//! [`diagnose`] is pure. What it needs of the live process (what a file descriptor stood for, whether the control group
//! was throttled) is collected beforehand by [`Objects`] and [`CpuQuota`].

mod blame;
mod evidence;
mod facts;
mod moment;
mod object;
mod objects;
mod quota;
mod rules;
mod sockets;
mod syscall;
#[cfg(test)]
mod tests;
mod verdict;

pub use evidence::{PollEvidence, StackEvidence, ThrottleDelta};
pub use moment::Moment;
pub use object::Object;
pub use objects::Objects;
pub use quota::CpuQuota;
pub use rules::{Colour, RULES, Rule};
pub use syscall::RawSyscall;
pub use verdict::diagnose;
