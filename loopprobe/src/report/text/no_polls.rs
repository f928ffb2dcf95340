//! What a process did in which no task was polled, in short sentences.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use super::style::NOTE;
use crate::{
    model::{Doing, NoPolls, ThreadState},
    report::clean,
};

/// Threads named in one sentence.
const NAMED: usize = 4;

/// What is said first: a poll that goes on is one too.
pub(super) fn headline(found: Option<&NoPolls>) -> &'static str {
    let mut threads = found.iter().flat_map(|found| &found.threads);
    if threads.any(|thread| thread.doing == Doing::InPoll) {
        "no poll has ended"
    } else {
        "no task was polled"
    }
}

/// Writes a sentence for each thing that threads were found doing, and one for each child process.
pub(super) fn write(out: &mut impl Write, found: &NoPolls) -> io::Result<()> {
    for child in &found.children {
        writeln!(
            out,
            "  its child {} (pid {pid}) has Tokio in it too: watch that one with --pid {pid}",
            clean(&child.name),
            pid = child.pid,
        )?;
    }
    for sentence in sentences(&found.threads) {
        writeln!(out, "  {sentence}")?;
    }
    let parked = found
        .threads
        .iter()
        .any(|thread| thread.doing == Doing::Parked);
    if parked && found.threads.iter().all(is_idle) {
        let was = if found.threads.iter().all(|thread| thread.certain) {
            "was idle"
        } else {
            "seems to have been idle"
        };
        writeln!(
            out,
            "  so the runtime {was}: no thread was in a task or closure"
        )?;
    }
    if let Some(unknown) = unknown(&found.threads) {
        writeln!(out, "  {NOTE}note:{NOTE:#} {unknown}")?;
    }
    Ok(())
}

/// Whether a thread is known to have had nothing to do with tasks.
fn is_idle(thread: &ThreadState) -> bool {
    matches!(thread.doing, Doing::Parked | Doing::Outside)
}

/// Threads that did the same make one sentence.
fn sentences(threads: &[ThreadState]) -> Vec<String> {
    let mut groups: BTreeMap<(Doing, String), Vec<&ThreadState>> = BTreeMap::new();
    for thread in threads {
        if let Some(did) = did(thread) {
            groups.entry((thread.doing, did)).or_default().push(thread);
        }
    }
    groups
        .into_iter()
        .map(|((_, did), threads)| format!("{} {did}", who(&threads)))
        .collect()
}

/// What a thread did; `None` for what is told otherwise.
pub(super) fn did(thread: &ThreadState) -> Option<String> {
    let seemed = |did: &str| {
        if thread.certain {
            did.to_owned()
        } else {
            format!("{did}, as it seems from its source files")
        }
    };
    let waits = waits(thread);
    Some(match thread.doing {
        Doing::RuntimeDrop => seemed(
            "waited for a Tokio runtime to shut down (Runtime::drop): that waits for closures of the blocking pool and for polls to end",
        ),
        Doing::InPoll => format!("was in the poll of a task{waits}"),
        Doing::BlockingClosure if thread.certain => {
            format!("was in a closure of the blocking pool{waits}")
        }
        Doing::BlockingClosure => {
            format!("was in a closure of the blocking pool, or is a worker{waits}")
        }
        Doing::Parked => seemed("was parked: there was nothing to run"),
        Doing::Outside => format!("was in no task{waits}"),
        Doing::Running => "was on a CPU: its stack was not looked at".to_owned(),
        Doing::NotWalked => return None,
    })
}

/// `: read in app::read_command, /dev/null`.
fn waits(thread: &ThreadState) -> String {
    let mut text = thread
        .syscall
        .as_ref()
        .map_or_else(String::new, |syscall| format!(": {}", clean(syscall)));
    if let Some(call) = &thread.call {
        text += &format!(" in {}", clean(call));
    }
    if let Some(object) = &thread.object {
        text += &format!(", {}", clean(object));
    }
    text
}

/// `main/7` or `6 threads (a/1, a/2, a/3, a/4, ...)`.
fn who(threads: &[&ThreadState]) -> String {
    let name = |thread: &&ThreadState| format!("{}/{}", clean(&thread.thread), thread.tid);
    if let [only] = threads {
        return name(only);
    }
    let mut names: Vec<String> = threads.iter().take(NAMED).map(name).collect();
    if threads.len() > NAMED {
        names.push("...".to_owned());
    }
    format!("each of {} threads ({})", threads.len(), names.join(", "))
}

/// The threads of which nothing is known.
fn unknown(threads: &[ThreadState]) -> Option<String> {
    let unknown: Vec<&ThreadState> = threads
        .iter()
        .filter(|thread| thread.doing == Doing::NotWalked)
        .collect();
    (!unknown.is_empty()).then(|| {
        format!(
            "{} could not be looked at: the stack was not followed to the thread's first function, so a poll may be on it",
            who(&unknown)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ChildProcess;

    fn thread(tid: u32, doing: Doing) -> ThreadState {
        ThreadState {
            tid,
            thread: "w".to_owned(),
            doing,
            certain: true,
            syscall: None,
            call: None,
            object: None,
            frames: Vec::new(),
        }
    }

    fn text(found: &NoPolls) -> String {
        let mut out = Vec::new();
        write(&mut anstream::StripStream::new(&mut out), found).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_shutdown_that_waits_names_what_it_waits_for() {
        let reads = ThreadState {
            syscall: Some("read".to_owned()),
            call: Some("app::read_command".to_owned()),
            object: Some("/dev/null".to_owned()),
            ..thread(2, Doing::BlockingClosure)
        };
        let found = NoPolls {
            threads: vec![thread(1, Doing::RuntimeDrop), reads],
            children: Vec::new(),
        };
        let text = text(&found);
        assert!(
            text.contains("w/1 waited for a Tokio runtime to shut down"),
            "{text}"
        );
        assert!(
            text.contains(
                "w/2 was in a closure of the blocking pool: read in app::read_command, /dev/null"
            ),
            "{text}"
        );
        assert!(!text.contains("idle"), "{text}");
    }

    #[test]
    fn idle_is_said_only_when_every_thread_was_seen() {
        let mut found = NoPolls {
            threads: vec![thread(1, Doing::Parked), thread(2, Doing::Parked)],
            children: Vec::new(),
        };
        assert!(text(&found).contains("each of 2 threads (w/1, w/2) was parked"));
        assert!(text(&found).contains("so the runtime was idle"));
        found.threads[1].certain = false;
        assert!(text(&found).contains("so the runtime seems to have been idle"));
        for doing in [Doing::NotWalked, Doing::Running, Doing::InPoll] {
            found.threads[1].doing = doing;
            assert!(!text(&found).contains("idle"));
        }
        found.threads[1].doing = Doing::NotWalked;
        assert!(text(&found).contains("w/2 could not be looked at"));
    }

    #[test]
    fn a_child_with_the_runtime_comes_first() {
        let found = NoPolls {
            threads: vec![thread(1, Doing::Outside)],
            children: vec![ChildProcess {
                pid: 9,
                name: "granian".to_owned(),
            }],
        };
        assert!(text(&found).starts_with("  its child granian (pid 9) has Tokio in it too"));
    }
}
