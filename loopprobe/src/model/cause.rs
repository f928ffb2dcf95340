//! Why a poll was long: the list of reasons, and a diagnosis with its evidence and advice.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::SourceLocation;

/// Why a poll was long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// It computed.
    Cpu,
    /// It slept (`std::thread::sleep`).
    Sleep,
    /// It read or wrote a file, or looked up a path.
    FileIo,
    /// It waited for data to reach the disk.
    Fsync,
    /// It waited for a socket.
    Network,
    /// It resolved a name.
    Dns,
    /// It waited for a lock.
    Lock,
    /// It waited for a child process.
    Child,
    /// It touched memory that was not there yet.
    PageFault,
    /// It was ready to run, but others had the CPU. Not the code's fault.
    Preempted,
    /// Its control group had used up its CPU quota. Not the code's fault.
    Throttled,
    /// It ran another event loop to the end.
    NestedBlockOn,
    /// It waited for a pipe or a terminal: for another program's pace.
    Pipe,
    /// It waited for a channel between threads.
    Channel,
    /// It waited until another thread had done something.
    ThreadWait,
    /// It asked again and again, and gave its CPU away in between.
    Spin,
    /// It was stopped, by a signal or a debugger. Not the code's fault.
    Stopped,
    /// Its control group was frozen. Not the code's fault.
    Frozen,
    /// The kernel had it wait for memory.
    Reclaim,
    /// It changed the process's memory map, or waited to.
    MemoryMap,
    /// It dropped a large value.
    Drop,
    /// It made a backtrace.
    Backtrace,
    /// It waited in a synchronous database.
    Database,
    /// It closed a descriptor.
    Closing,
    /// Its awaits were all ready, one after the other, and it never gave its thread back.
    NeverYields,
    /// It could not be told.
    Unknown,
}

impl Cause {
    /// Whether it is time that others took from the poll, and no code of the program's.
    pub fn is_others(self) -> bool {
        matches!(
            self,
            Self::Preempted | Self::Throttled | Self::Stopped | Self::Frozen
        )
    }

    /// As in the JSON: `file_io`.
    pub fn name(self) -> String {
        match serde_json::to_value(self) {
            Ok(serde_json::Value::String(name)) => name,
            _ => "unknown".to_owned(),
        }
    }

    /// The cause with that name in the JSON.
    pub fn from_name(name: &str) -> Option<Self> {
        serde_json::from_value(name.into()).ok()
    }
}

/// The function that the user would go and change.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Blocked {
    /// The demangled name, or `module+0xoffset`.
    pub function: String,
    /// Where it stands.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub location: Option<SourceLocation>,
}

/// A cause with what speaks for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// The cause that took most of the time.
    pub cause: Cause,
    /// The blocking call: the deepest frame that belongs to the user's code or a dependency.
    pub call: Option<Blocked>,
    /// The innermost async function on the stack: the awaited child, not the awaiting parent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub innermost: Option<Blocked>,
    /// Facts, by name: `syscall`, `path`, `peer`, `holder_tid`, `page_faults`, ...
    #[serde(default)]
    pub evidence: BTreeMap<String, String>,
    /// One line of advice.
    pub advice: String,
    /// How much of the poll was the code's own, in nanoseconds: all but what [`Cause::is_others`]
    /// took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_ns: Option<u64>,
}
