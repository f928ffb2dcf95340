use super::{Colour, Rule};
use crate::{
    diagnose::{moment::names, syscall::Waits},
    model::{Cause, Frame},
};

/// A lock.
pub(super) const RULE: Rule = Rule {
    cause: Cause::Lock,
    label: "lock",
    colour: Colour::Lock,
    recognised: "blocked in futex (mutex, rwlock, condition variable, channel, thread join), flock or a waiting fcntl",
    advice: "hold the lock for less time and never across .await; use tokio::sync where the wait can be long, or wait in tokio::task::spawn_blocking",
    applies: |moment| {
        moment.is_blocked() && matches!(moment.waits(), Some(Waits::Futex | Waits::FileLock))
    },
};

/// What waits on a futex, first match first.
const LOCKS: &[(&str, &str)] = &[
    ("rwlock", "rwlock"),
    ("RwLock", "rwlock"),
    ("pthread_rwlock", "rwlock"),
    ("Condvar", "condition variable"),
    ("pthread_cond", "condition variable"),
    ("mpsc", "channel"),
    ("mpmc", "channel"),
    ("crossbeam_channel", "channel"),
    ("JoinHandle", "thread join"),
    ("JoinInner", "thread join"),
    ("pthread_join", "thread join"),
    ("Barrier", "barrier"),
    ("sync::once", "once cell"),
    ("sync::poison::once", "once cell"),
    ("Mutex", "mutex"),
    ("mutex", "mutex"),
    ("__lll_lock_wait", "mutex"),
    ("std::thread::park", "park"),
];

/// What kind of lock a futex belongs to, where the frames between it and the blocking call tell.
pub(crate) fn kind(frames: &[Frame]) -> Option<&'static str> {
    let deep = frames.iter().take_while(|frame| frame.runtime).count();
    names(frames.get(..deep)?).find_map(|name| {
        LOCKS
            .iter()
            .find(|(pattern, _)| name.contains(pattern))
            .map(|(_, kind)| *kind)
    })
}

/// Whether the lock is a POSIX mutex, the only one that keeps its owner in memory.
pub(crate) fn names_its_holder(frames: &[Frame]) -> bool {
    names(frames).any(|name| name.contains("pthread_mutex") || name.contains("__lll_lock_wait"))
}
