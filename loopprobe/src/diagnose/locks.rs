//! Who holds locks on files, by the kernel's table (`/proc/locks`), and a process's databases.

use std::{collections::BTreeSet, fs, os::unix::fs::MetadataExt as _, path::Path};

use super::{
    object::LockedFile,
    processes::{numbers, process},
    stat::Stat,
};

/// So many descriptors are looked at.
const MAX_FILES: usize = 4096;

/// A database file that the process has open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Database {
    /// Its path.
    pub path: String,
    /// The processes that hold a lock on it, `name (pid)`.
    pub holders: Vec<String>,
}

/// Adds who else than a process holds a lock on a file, and its path if one of them still has it
/// open. Of the process itself nothing is said: by now the lock may be its own.
pub(super) fn complete(file: &mut LockedFile, locks: &str, own: u32) {
    let mut others = holders(locks, file.inode);
    others.remove(&own);
    if file.path.is_none() {
        file.path = others.iter().find_map(|&pid| path_of(pid, file.inode));
    }
    file.holders = others.into_iter().map(process).collect();
}

/// The path of a file that a process has open.
fn path_of(pid: u32, inode: u64) -> Option<String> {
    let places = numbers(pid).into_iter().take(MAX_FILES);
    let mut places = places.map(|fd| format!("/proc/{pid}/fd/{fd}"));
    let place = places.find(|place| Stat::cached(place).is_some_and(|s| s.inode == inode))?;
    Some(fs::read_link(place).ok()?.to_string_lossy().into_owned())
}

/// The SQLite files that a process has open, those with a lock first.
pub(super) fn databases(pid: u32) -> Vec<Database> {
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for fd in numbers(pid).into_iter().take(MAX_FILES) {
        let place = format!("/proc/{pid}/fd/{fd}");
        let Ok(link) = fs::read_link(&place) else {
            continue;
        };
        let Ok(data) = fs::metadata(&place) else {
            continue;
        };
        if !data.is_file() || !seen.insert(data.ino()) || !is_sqlite(Path::new(&place)) {
            continue;
        }
        found.push(Database {
            path: link.to_string_lossy().into_owned(),
            holders: holders(&locks, data.ino())
                .into_iter()
                .map(|holder| match holder == pid {
                    true => "a connection of this process itself".to_owned(),
                    false => process(holder),
                })
                .collect(),
        });
    }
    found.sort_by_key(|database| database.holders.is_empty());
    found
}

/// A database of SQLite begins with its name (`https://www.sqlite.org/fileformat.html`).
fn is_sqlite(path: &Path) -> bool {
    use std::io::Read as _;
    let mut head = [0; 16];
    fs::File::open(path)
        .and_then(|mut file| file.read_exact(&mut head))
        .is_ok()
        && &head == b"SQLite format 3\0"
}

/// Who holds a lock on a file, by the kernel's table: `1: POSIX  ADVISORY  WRITE 812 fe:00:1234 0
/// EOF`. A line of somebody who waits has an arrow behind its number.
fn holders(locks: &str, inode: u64) -> BTreeSet<u32> {
    locks
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            if fields.get(1) == Some(&"->") {
                return None;
            }
            let number: u64 = fields.get(5)?.rsplit(':').next()?.parse().ok()?;
            (number == inode).then(|| fields.get(4)?.parse().ok())?
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_table_names_the_holders_of_a_lock() {
        let table = "1: POSIX  ADVISORY  WRITE 4294967 fe:00:1234 120 120\n\
                     1: -> POSIX  ADVISORY  WRITE 4294966 fe:00:1234 120 120\n\
                     2: FLOCK  ADVISORY  WRITE 4294965 fe:00:99 0 EOF\n";
        assert_eq!(holders(table, 1234), BTreeSet::from([4_294_967]));
        assert_eq!(holders(table, 1), BTreeSet::new());
    }
}
