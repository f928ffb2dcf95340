//! The live tasks of a process, whichever runtime they belong to.

use std::sync::Arc;

use serde::Serialize;

use super::{RuntimeImage, ServedType};
use crate::{
    elf::ProcAddr,
    model::SourceLocation,
    process::{Memory, ProcessError},
};

/// A file with a runtime in it, where a process has it mapped.
#[derive(Clone, Debug)]
pub struct MappedImage {
    /// What it holds.
    pub image: Arc<dyn RuntimeImage>,
    /// Addresses in the process minus addresses in the file.
    pub bias: u64,
}

/// Finds the live tasks of one runtime in one process, by reading its memory. The process is not
/// stopped, so it changes meanwhile, and all that is read is checked.
pub trait TaskFinder: Send {
    /// Looks for the process's event loops anew. This reads all of its writable memory (about a
    /// second for each 2 GB); what it finds serves later calls of the other methods, until loops
    /// are created that have to be seen too.
    ///
    /// # Errors
    /// If the process is gone.
    fn search(&mut self) -> Result<Searched, ProcessError>;

    /// How many tasks each loop has, of the loops that the last search found and that are still
    /// there.
    ///
    /// Cheap where the runtime itself counts: a few words are read for each loop (about 2 us).
    /// Elsewhere its list is walked (about 1 us for each task). See [`LoopCount::source`].
    fn counts(&mut self) -> Vec<LoopCount>;

    /// The blocking pools of the loops that the last search found. `None` if one of them is not
    /// known beyond doubt. Takes some 20 us a loop.
    fn pools(&mut self) -> Option<Vec<PoolCount>> {
        None
    }

    /// The tasks of the loops that the last search found.
    fn tasks(&mut self) -> LiveTasks;

    /// Locks and permits that were handed to futures which have not been polled since, while others
    /// wait for them; `tasks` is what [`Self::tasks`] has just found. Reads all of the process's
    /// writable memory, and once more where tasks wait for a lock.
    ///
    /// # Errors
    /// If the process is gone.
    fn unclaimed(&mut self, _tasks: &[LiveTask]) -> Result<Vec<Unclaimed>, ProcessError> {
        Ok(Vec::new())
    }
}

/// What a search did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Searched {
    /// Event loops that were found. A loop without any task, ever or for long, is not.
    pub loops: usize,
    /// Bytes read.
    pub bytes: u64,
    /// Bytes of the process's memory that were not looked at: they are swapped out, or it cannot be
    /// told whether reading them would change anything.
    pub unread: u64,
    /// Tasks that are members of a list which was not found, so that [`TaskFinder::counts`] does
    /// not count them.
    pub strays: usize,
}

impl Searched {
    /// Adds what another search did.
    pub fn add(&mut self, other: Self) {
        self.loops += other.loops;
        self.bytes += other.bytes;
        self.unread += other.unread;
        self.strays += other.strays;
    }
}

/// How many tasks an event loop has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoopCount {
    /// Which loop: an address of the process, the same as long as the loop lives.
    pub address: ProcAddr,
    /// A number that no other loop has had at this address.
    pub number: u64,
    /// Its kind, in the runtime's own word.
    pub scheduler: &'static str,
    /// Tasks that are alive: spawned, and neither ended nor dropped.
    pub active: u64,
    /// Tasks spawned so far; `None` where the runtime does not count them.
    pub spawned: Option<u64>,
    /// Where `active` comes from.
    pub source: CountSource,
}

impl LoopCount {
    /// Whether no task is missing.
    pub fn is_whole(&self) -> bool {
        self.source != CountSource::PartlyWalked
    }
}

/// Threads and closures of a blocking pool. The workers of a runtime, which are threads of its pool
/// too, are not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PoolCount {
    /// Which pool: an address of the process, the same as long as it lives.
    pub address: ProcAddr,
    /// Threads that run a closure, or were a worker before it went into `block_in_place`.
    pub busy: u64,
    /// Threads that wait for a closure.
    pub idle: u64,
    /// Closures that wait for a thread.
    pub queued: u64,
    /// How many threads there may be, where that is known: not of a pool without threads in some
    /// places of memory.
    pub cap: Option<u64>,
    /// The first and the last of the closures that wait, if any does.
    pub ends: Option<QueueEnds>,
    /// Whether its runtime ends.
    pub state: PoolState,
}

/// Whether a blocking pool takes closures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PoolState {
    /// It does.
    #[default]
    Open,
    /// Its runtime ends; the busy threads are those that are left, workers among them.
    Closing {
        /// Whether a thread waits until they have ended.
        is_waited_for: bool,
    },
}

/// The ids of the closures that wait longest and shortest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct QueueEnds {
    /// The one that is next.
    pub first: u64,
    /// The one that came last.
    pub last: u64,
}

/// Where a count comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountSource {
    /// The runtime's own counter: exact at the moment when it was read.
    Counter,
    /// The list of tasks was walked, and no change of it was missed.
    Walked,
    /// The list changed so fast that a whole walk did not succeed: less than there are.
    PartlyWalked,
}

/// The live tasks of a process.
#[derive(Debug, Default)]
pub struct LiveTasks {
    /// The event loops.
    pub loops: Vec<LiveLoop>,
    /// Their tasks.
    pub tasks: Vec<LiveTask>,
    /// How many of them, or of the tasks that may be missing, are unsure: the memory changed too
    /// fast.
    pub unsure: u64,
}

/// An event loop with tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveLoop {
    /// Which one ([`LoopCount::address`]).
    pub address: ProcAddr,
    /// Its kind, in the runtime's own word.
    pub scheduler: &'static str,
}

/// A live task.
#[derive(Clone, Debug)]
pub struct LiveTask {
    /// Its header.
    pub header: ProcAddr,
    /// The runtime's number of it; `None` where it has none.
    pub id: Option<u64>,
    /// Its type, as the file tells it.
    pub served: Arc<ServedType>,
    /// In which file that type is: an index of the images that the finder was made with.
    pub image: usize,
    /// What it did when it was read.
    pub state: TaskState,
    /// Whether it waits and nobody holds a waker of it: only its list, and perhaps a handle to join
    /// it, refer to it.
    pub no_waker: bool,
    /// Its loop: an index of [`LiveTasks::loops`]. `None` for closures, and where it is not known.
    pub of_loop: Option<usize>,
}

/// A lock or a permit that was handed to a future which has not been polled since, while others
/// wait for it. What is left in memory of a future that was dropped may look the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unclaimed {
    /// The lock: an address of the process.
    pub semaphore: ProcAddr,
    /// The future.
    pub future: ProcAddr,
    /// The task that polled it last, as an index of the tasks; `None` if that is not known.
    pub task: Option<usize>,
    /// The future that is next in the lock's queue.
    pub oldest: ProcAddr,
    /// How many futures wait in the lock's queue.
    pub queue: u64,
    /// The tasks that poll these, as far as they are known: indices of the tasks.
    pub waiting: Vec<usize>,
}

impl Unclaimed {
    /// The same where so many tasks come before.
    pub(crate) fn behind(self, before: usize) -> Self {
        let moved = |task: usize| before + task;
        Self {
            task: self.task.map(moved),
            waiting: self.waiting.into_iter().map(moved).collect(),
            ..self
        }
    }
}

/// What a task does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// A thread polls it, or runs the closure.
    Running,
    /// It was woken, and waits for its turn.
    Scheduled,
    /// It waits to be woken.
    Idle,
    /// It has just ended, and is about to be forgotten.
    Complete,
    /// A closure that waits for a thread of the pool.
    Queued,
}

impl TaskState {
    /// In a word, the same as in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Scheduled => "scheduled",
            Self::Idle => "idle",
            Self::Complete => "complete",
            Self::Queued => "queued",
        }
    }
}

/// Tells where tasks wait.
pub trait AwaitChains: std::fmt::Debug {
    /// The futures that a task awaits, from its own to the innermost that is known, each with the
    /// place where it awaits the next one. The last one has none: it is no async function, or has
    /// not begun. `None` where it cannot be told.
    fn of(&mut self, memory: &Memory, task: &LiveTask) -> Option<Arc<[AwaitPoint]>>;
}

/// A future of a chain.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct AwaitPoint {
    /// The async function or block, or another future's type, in the form that task types have.
    pub function: String,
    /// Where it awaits the next one.
    #[serde(flatten)]
    pub location: Option<SourceLocation>,
}
