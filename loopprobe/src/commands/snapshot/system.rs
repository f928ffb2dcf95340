//! What the machine says of a process: its file locks, its control groups' limits and use, and the
//! pressure it is under.

use std::{
    collections::{HashMap, HashSet},
    fs,
    os::linux::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use serde::Serialize;

/// Files of a control group that tell what it may use and what it waits for: of version 2, then of
/// version 1 (`Documentation/admin-guide/cgroup-v2.rst` and `cgroup-v1/`, Linux 6.18).
const GROUP_FILES: [&str; 15] = [
    "cpu.max",
    "cpu.stat",
    "cpu.pressure",
    "memory.current",
    "memory.high",
    "memory.max",
    "memory.events",
    "memory.pressure",
    "io.pressure",
    "cgroup.freeze",
    "cpu.cfs_quota_us",
    "cpu.cfs_period_us",
    "memory.usage_in_bytes",
    "memory.limit_in_bytes",
    "freezer.state",
];

/// Of these only lines with a figure that is not 0 are told.
const COUNTERS: [&str; 2] = ["cpu.stat", "memory.events"];

/// What the machine says.
#[derive(Debug, Default, Serialize)]
pub(super) struct System {
    /// Locks on files that the process holds or waits for, as `/proc/locks` has them, with the path
    /// where a descriptor of the process shows it; `None` if that cannot be read. Locks of open
    /// file descriptions (`fcntl`'s OFD locks) are nobody's there: those on files that the process
    /// has open are among them.
    pub locks: Option<Vec<Lock>>,
    /// Lines of the files of its control groups.
    pub control_groups: Vec<Line>,
    /// Lines of `/proc/pressure`: the whole machine's.
    pub pressure: Vec<Line>,
}

/// A line of `/proc/locks` (proc_locks(5)); `->` stands before the kind of one that is waited for.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Lock {
    pub line: String,
    pub path: Option<String>,
}

/// A line of a file.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Line {
    pub file: String,
    pub text: String,
}

impl System {
    /// As it is now. What cannot be read is not there.
    pub(super) fn of(pid: u32) -> Self {
        let text = fs::read_to_string("/proc/locks").ok();
        let locks = text.map(|text| locks(&text, pid, &open_files(pid)));
        Self {
            locks,
            control_groups: control_groups(pid),
            pressure: ["cpu", "memory", "io"]
                .iter()
                .flat_map(|name| lines(&Path::new("/proc/pressure").join(name), name))
                .collect(),
        }
    }
}

/// The locks that a process is part of, those that wait for one of its own included. `files`: the
/// paths of those that it has open.
fn locks(text: &str, pid: u32, files: &HashMap<String, String>) -> Vec<Lock> {
    const NOBODY: &str = "-1";
    let path = |line: &str| files.get(file_of(line)?).cloned();
    let is_own = |line: &&str| {
        let mut words = line.split_ascii_whitespace().filter(|word| *word != "->");
        let holder = words.nth(4).unwrap_or_default();
        holder == pid.to_string() || holder == NOBODY && path(line).is_some()
    };
    let number = |line: &str| Some(line.split_once(':')?.0.to_owned());
    let own: HashSet<_> = text.lines().filter(is_own).map(number).collect();
    let lines = text.lines().filter(|line| own.contains(&number(line)));
    let lock = |line: &str| Lock {
        line: line.to_owned(),
        path: path(line),
    };
    lines.map(lock).collect()
}

/// The device and inode of a lock's file, as `/proc/locks` writes them.
fn file_of(line: &str) -> Option<&str> {
    let mut words = line.split_ascii_whitespace();
    words.find(|word| word.split(':').count() == 3)
}

/// The paths of the files that a process has open, by device and inode.
fn open_files(pid: u32) -> HashMap<String, String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten();
    let file = |entry: fs::DirEntry| {
        let about = fs::metadata(entry.path()).ok()?;
        let device = about.st_dev();
        let key = format!(
            "{:02x}:{:02x}:{}",
            libc::major(device),
            libc::minor(device),
            about.st_ino()
        );
        let path = fs::read_link(entry.path()).ok()?;
        Some((key, path.to_string_lossy().into_owned()))
    };
    entries.flatten().filter_map(file).collect()
}

fn control_groups(pid: u32) -> Vec<Line> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let mut found = Vec::new();
    for line in text.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        found.push(Line {
            file: "cgroup".to_owned(),
            text: line.to_owned(),
        });
        let folder = folder(controllers, path);
        found.extend(
            GROUP_FILES
                .iter()
                .flat_map(|name| lines(&folder.join(name), name)),
        );
    }
    found
}

/// Where a hierarchy is mounted by custom.
fn folder(controllers: &str, path: &str) -> PathBuf {
    let path = path.trim_start_matches('/');
    let unified = Path::new("/sys/fs/cgroup/unified");
    let root = match controllers {
        "" if unified.exists() => unified.to_owned(),
        "" => PathBuf::from("/sys/fs/cgroup"),
        named => Path::new("/sys/fs/cgroup").join(named),
    };
    root.join(path)
}

fn lines(path: &Path, name: &str) -> Vec<Line> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let is_told = |line: &&str| !COUNTERS.contains(&name) || !line.ends_with(" 0");
    let line = |text: &str| Line {
        file: name.to_owned(),
        text: text.to_owned(),
    };
    text.lines().filter(is_told).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCKS: &str = "\
1: POSIX  ADVISORY  WRITE 708 fd:00:1234 0 EOF
1: -> POSIX  ADVISORY  WRITE 709 fd:00:1234 0 EOF
2: FLOCK  ADVISORY  WRITE 55 fd:00:77 0 EOF
3: OFDLCK ADVISORY  WRITE -1 fd:00:99 0 EOF
";

    #[test]
    fn locks_are_told_with_who_waits_for_them_and_whom_they_wait_for() {
        let none = HashMap::new();
        for pid in [708, 709] {
            let found = locks(LOCKS, pid, &none);
            assert_eq!(found.len(), 2, "{pid}: {found:?}");
            assert_eq!(file_of(&found[1].line), Some("fd:00:1234"));
        }
        assert_eq!(locks(LOCKS, 55, &none).len(), 1);
        assert_eq!(locks(LOCKS, 1234, &none), []);
    }

    #[test]
    fn a_lock_of_nobodys_is_told_if_its_file_is_open() {
        let files = HashMap::from([("fd:00:99".to_owned(), "/a".to_owned())]);
        let found = locks(LOCKS, 1234, &files);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].path.as_deref(), Some("/a"));
    }
}
