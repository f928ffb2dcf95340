//! What a session saw: tasks, polls, causes, a summary.
//!
//! These types are the contract between the stages. They name no runtime: a poll is one
//! uninterrupted turn that an event loop gave to a task. They serialize to the JSON that
//! `docs/json.md` describes, so a recording and the JSON output carry the same words.

mod background;
mod budget;
mod canary;
mod cause;
mod distribution;
mod due;
mod finding;
mod interval;
mod live;
mod looks;
mod no_polls;
mod placement;
mod poll;
mod role;
mod session;
mod sink;
mod sinks;
mod stack;
mod summary;
mod task;

pub use background::Background;
pub use budget::{Budget, Step};
pub use canary::{Canary, Coverage};
pub use cause::{Blocked, Cause, Diagnosis};
pub use distribution::Distribution;
pub(crate) use due::Due;
pub use finding::{Awaited, Evidence, Finding, FindingKind, FoundPoll};
pub use interval::{DriverLag, Interval, Pool, WakeToPoll, WorkerLoad};
pub use live::{CurrentPoll, Live, Worker};
pub use looks::Looks;
pub use no_polls::{ChildProcess, Doing, NoPolls, ThreadState};
pub use placement::Placement;
pub use poll::{Bounds, LongPoll, PollKind, Split};
pub use role::Role;
pub use session::{Event, Mode, Notice, Session};
pub use sink::Sink;
pub use sinks::Sinks;
pub use stack::{Frame, Outcome, Stack, StackKind};
pub use summary::{FindingCount, Group, Lost, ProbeCost, Summary, TaskSummary, Waits};
pub use task::{NameSource, SourceLocation, TaskKind, TaskType};
