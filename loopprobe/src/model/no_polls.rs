//! What each thread of a process did when a whole session saw no task polled.

use serde::{Deserialize, Serialize};

use super::Frame;

/// What a process did at the end of a session in which no task was polled: that is a finding, not
/// an all-clear.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoPolls {
    /// Its threads, by thread id; none if it has ended.
    pub threads: Vec<ThreadState>,
    /// Processes below it that have the runtime in them too.
    #[serde(default)]
    pub children: Vec<ChildProcess>,
}

/// What one thread did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadState {
    /// The thread.
    pub tid: u32,
    /// Its name.
    pub thread: String,
    /// What it did.
    pub doing: Doing,
    /// Whether that is certain. Without symbols it is told by the source files that the code refers
    /// to, which may mislead.
    pub certain: bool,
    /// The system call that it waited in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub syscall: Option<String>,
    /// The function of the program, or of a dependency, that waited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<String>,
    /// What the system call was about: a path, a peer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// Its stack, innermost first, where that was asked for and the thread waited.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub frames: Vec<Frame>,
}

/// What a thread can be found doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Doing {
    /// It waits for a runtime to shut down, and so for the closures on its blocking pool.
    RuntimeDrop,
    /// It is inside the poll of a task.
    InPoll,
    /// It runs a closure of the blocking pool.
    BlockingClosure,
    /// It waits for events, or for something to run.
    Parked,
    /// It waits inside no poll, closure or runtime. Its whole stack has been seen.
    Outside,
    /// It was on a CPU or ready to run, so its stack could not be looked at.
    Running,
    /// Its stack could not be followed to its first function, so a poll may be on it.
    NotWalked,
}

/// A process below another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildProcess {
    /// Its id.
    pub pid: u32,
    /// Its name.
    pub name: String,
}
