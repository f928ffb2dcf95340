//! Whether anybody is left who could end a wait for a lock that goes on.

use std::{collections::HashSet, fs};

use crate::model::{Cause, LongPoll};

/// Adds to a poll that waits for a lock, or for another thread, that all its like do so too and
/// nothing of the process runs, if that is so; says whether it is. `polling` are the threads with
/// an open poll. Not a proof: a thread that sleeps may hold the lock.
pub(super) fn tell(poll: &mut LongPoll, polling: &HashSet<u32>) -> bool {
    let Some(diagnosis) = &mut poll.diagnosis else {
        return false;
    };
    if poll.ended || !matches!(diagnosis.cause, Cause::Lock | Cause::ThreadWait) {
        return false;
    }
    if let Some(count) = all_wait(poll.pid, poll.tid, polling) {
        let words = match count {
            1 => "possible: no thread of the process runs".to_owned(),
            _ => format!(
                "possible: all {count} threads named {} wait like this one, and no thread of the process runs",
                poll.thread
            ),
        };
        diagnosis.evidence.insert("deadlock".to_owned(), words);
        return true;
    }
    false
}

/// How many threads have the name of this one, if each is inside a poll and waits for a futex, and
/// no thread runs or waits for a disk.
fn all_wait(pid: u32, tid: u32, polling: &HashSet<u32>) -> Option<usize> {
    let name = name(pid, tid)?;
    let futex = libc::SYS_futex.to_string();
    let mut count = 0;
    for entry in fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        let other: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        if !is_asleep(pid, other)? {
            return None;
        }
        if self::name(pid, other)? == name {
            let waits = polling.contains(&other) && syscall(pid, other)? == futex;
            count += waits.then_some(1)?;
        }
    }
    Some(count)
}

fn name(pid: u32, tid: u32) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/task/{tid}/comm")).ok()
}

fn is_asleep(pid: u32, tid: u32) -> Option<bool> {
    let stat = fs::read_to_string(format!("/proc/{pid}/task/{tid}/stat")).ok()?;
    // The name before the state may hold anything, closing brackets too.
    let (_, rest) = stat.rsplit_once(") ")?;
    Some(rest.starts_with('S') || rest.starts_with('I'))
}

/// The number of the system call that a thread waits in; another word if it is in none.
fn syscall(pid: u32, tid: u32) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{tid}/syscall")).ok()?;
    Some(text.split_ascii_whitespace().next()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_a_running_thread_is_not_dead() {
        let pid = std::process::id();
        // This thread runs.
        assert_eq!(all_wait(pid, pid, &HashSet::from([pid])), None);
    }
}
