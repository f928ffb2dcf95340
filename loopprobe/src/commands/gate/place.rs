//! Where in the program's own source a kind of long poll is to be mended.

use std::{env, path::Path};

use crate::{
    model::{LongPoll, Role, SourceLocation, StackKind},
    report::{Owner, owner_of_file},
};

/// The call, or else the innermost own function on the longest stack, or else where the task is
/// defined: the first that lies in the program's own source.
pub(super) fn place(poll: &LongPoll) -> Option<SourceLocation> {
    let diagnosis = poll.diagnosis.as_ref();
    let call = diagnosis.and_then(|found| found.call.as_ref()?.location.as_ref());
    let innermost = diagnosis.and_then(|found| found.innermost.as_ref()?.location.as_ref());
    let waits = poll
        .stacks
        .iter()
        .filter(|stack| stack.kind != StackKind::Runnable);
    let longest = waits.max_by_key(|stack| stack.ns);
    let frames = longest.into_iter().flat_map(|stack| &stack.frames);
    let own = frames.filter(|frame| frame.role == Role::Own);
    let mut candidates = call
        .into_iter()
        .chain(own.filter_map(|frame| frame.location.as_ref()))
        .chain(innermost)
        .chain(poll.task.location.as_ref());
    candidates.find(|place| is_own(&place.file)).cloned()
}

/// The C library's paths look like a program's own, but are not Rust's.
fn is_own(file: &str) -> bool {
    file.ends_with(".rs") && owner_of_file(file) == Owner::Own
}

/// The file's path from the repository's root, as GitHub wants it. Compilers write paths from the
/// workspace's root; test programs run in a package's folder below it.
pub(super) fn in_repository(file: &str) -> String {
    let root = env::var("GITHUB_WORKSPACE")
        .ok()
        .filter(|root| !root.is_empty());
    let here = env::current_dir().unwrap_or_default();
    from_root(file, root.as_deref(), &here)
}

fn from_root(file: &str, root: Option<&str>, here: &Path) -> String {
    let mut folders = here.ancestors();
    let whole = match folders.find(|folder| folder.join(file).is_file()) {
        Some(folder) if root.is_some() => folder.join(file),
        _ => file.into(),
    };
    let inside = root.and_then(|root| whole.strip_prefix(root).ok());
    inside.unwrap_or(Path::new(file)).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_programs_own_source_is_marked() {
        let mut poll: LongPoll = serde_json::from_value(serde_json::json!({
            "pid": 1, "tid": 1, "thread": "worker", "task_id": 7, "start_ns": 1, "ended": true, "duration_ns": 1,
            "task": {"name": "a", "name_source": "location", "certain": true, "kind": "async", "file": "src/task.rs", "line": 7},
            "cause": "sleep", "advice": "", "stacks": [{"ns": 1, "start_ns": 1, "kind": "blocked", "outcome": "complete", "frames": [
                {"function": "nanosleep", "file": "./time/nanosleep.c", "line": 1, "role": "c"},
                {"function": "a::retry", "file": "src/retry.rs", "line": 9, "role": "own"},
            ]}],
        }))
        .unwrap();
        let at = |poll: &LongPoll| place(poll).map(|place| place.to_string());
        assert_eq!(at(&poll).unwrap(), "src/retry.rs:9");
        poll.stacks[0].frames.pop();
        assert_eq!(at(&poll).unwrap(), "src/task.rs:7");
        poll.task.location = None;
        assert_eq!(at(&poll), None);
    }

    #[test]
    fn a_path_begins_at_the_root_of_the_repository() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let workspace = here.parent().unwrap();
        let below = workspace.parent().unwrap().to_str();
        let name = workspace.file_name().unwrap().to_str().unwrap();
        let file = "loopprobe/src/main.rs";
        assert_eq!(from_root(file, workspace.to_str(), here), file);
        assert_eq!(from_root(file, below, here), format!("{name}/{file}"));
        let whole = workspace.join(file);
        assert_eq!(
            from_root(whole.to_str().unwrap(), workspace.to_str(), here),
            file
        );
        assert_eq!(from_root("src/nowhere.rs", below, here), "src/nowhere.rs");
    }
}
