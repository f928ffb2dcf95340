//! What `/proc` tells of file descriptors beside their names: modes, who has the other end, who
//! waits for events, and locks.
//!
//! Some of this takes a look at every process, so it is asked only for polls that were long, and
//! answers are kept for a while.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use super::{
    Object,
    object::{LockedFile, Pipe, Socket},
    stat::Stat,
};

/// How long an answer is believed, in nanoseconds.
const KEEP_NS: u64 = 5_000_000_000;
/// So many processes at the other end of a pipe are named.
const MAX_PEERS: usize = 3;
/// So many database files are looked for.
const MAX_FILES: usize = 4096;

/// Looks up what is worth it for long polls only.
#[derive(Debug)]
pub struct Descriptors {
    pid: u32,
    ends: HashMap<(u64, bool), (u64, Ends)>,
    databases: (u64, Vec<Database>),
}

/// A database file that the process has open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Database {
    /// Its path.
    pub path: String,
    /// The processes that hold a lock on it, `name (pid)`.
    pub holders: Vec<String>,
}

impl Descriptors {
    /// Of a process.
    pub fn of(pid: u32) -> Self {
        Self {
            pid,
            ends: HashMap::new(),
            databases: (0, Vec::new()),
        }
    }

    /// Adds who has a pipe's other end, and whether an event loop watches a socket.
    pub fn complete(&mut self, object: &mut Object, now_ns: u64) {
        match object {
            Object::Pipe(pipe) => {
                let ends = self.ends(pipe, now_ns);
                pipe.peers = ends.names;
                pipe.child = ends.child;
            }
            Object::Locked(file) => complete_locked(file, self.pid),
            Object::Socket(socket) => {
                socket.watched = socket.blocking == Some(true)
                    && socket.fd.is_some_and(|fd| is_watched(self.pid, fd));
            }
            Object::Any(several) => {
                for one in several {
                    self.complete(one, now_ns);
                }
            }
            _ => {}
        }
    }

    /// The SQLite files that the process has open, those with a lock first.
    pub fn databases(&mut self, now_ns: u64) -> &[Database] {
        if self.databases.0 + KEEP_NS <= now_ns || self.databases.0 == 0 {
            self.databases = (now_ns, databases(self.pid));
        }
        &self.databases.1
    }

    /// The process's control group of a controller of version 1, or else of version 2.
    pub fn group(&self, controller: &str) -> Option<String> {
        let text = fs::read_to_string(format!("/proc/{}/cgroup", self.pid)).ok()?;
        let of = |wanted: &str| {
            text.lines().find_map(|line| {
                let mut fields = line.splitn(3, ':').skip(1);
                let controllers = fields.next()?;
                let path = fields.next()?;
                controllers
                    .split(',')
                    .any(|one| one == wanted)
                    .then(|| path.to_owned())
            })
        };
        of(controller).or_else(|| of(""))
    }

    /// The process that traces this one, `name (pid)`.
    pub fn tracer(&self) -> Option<String> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("TracerPid:"))?;
        let pid: u32 = line.trim().parse().ok()?;
        (pid != 0).then(|| process(pid))
    }

    fn ends(&mut self, pipe: &Pipe, now_ns: u64) -> Ends {
        let key = (pipe.inode, pipe.reads);
        if let Some((at_ns, known)) = self.ends.get(&key)
            && at_ns + KEEP_NS > now_ns
        {
            return known.clone();
        }
        let found = Ends::of(self.pid, pipe);
        self.ends.insert(key, (now_ns, found.clone()));
        found
    }
}

/// Whether calls on a descriptor wait: `O_NONBLOCK` is not among its flags.
pub(crate) fn is_blocking(pid: u32, fd: u32) -> Option<bool> {
    Some(flags(pid, fd)? & libc::O_NONBLOCK == 0)
}

/// The flags of a descriptor, as `open` takes them.
fn flags(pid: u32, fd: u32) -> Option<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).ok()?;
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"))?;
    i32::from_str_radix(flags.trim(), 8).ok()
}

/// Whether an epoll instance of the process watches a descriptor (`tfd:` in its `fdinfo`).
fn is_watched(pid: u32, fd: u32) -> bool {
    numbers(pid).into_iter().any(|epoll| {
        let link = fs::read_link(format!("/proc/{pid}/fd/{epoll}")).unwrap_or_default();
        link.as_os_str() == "anon_inode:[eventpoll]"
            && fs::read_to_string(format!("/proc/{pid}/fdinfo/{epoll}"))
                .unwrap_or_default()
                .lines()
                .filter_map(|line| line.strip_prefix("tfd:"))
                .any(|rest| rest.split_ascii_whitespace().next() == Some(&fd.to_string()))
    })
}

/// The numbers of a process's descriptors.
fn numbers(pid: u32) -> Vec<u32> {
    let Ok(folder) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return Vec::new();
    };
    folder
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

/// Who has a pipe's other end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Ends {
    names: Vec<String>,
    /// Whether a child of the process is among them.
    child: bool,
}

impl Ends {
    /// Other processes before the process itself, which often still has both ends.
    fn of(own: u32, pipe: &Pipe) -> Self {
        let Ok(folder) = fs::read_dir("/proc") else {
            return Self::default();
        };
        let mut found: BTreeSet<u32> = folder
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(|&pid| has_end(pid, pipe))
            .collect();
        if found.len() > 1 {
            found.remove(&own);
        }
        Self {
            child: found.iter().any(|&pid| parent(pid) == Some(own)),
            names: found
                .into_iter()
                .take(MAX_PEERS)
                .map(|pid| named(pid, own))
                .collect(),
        }
    }
}

/// The process that started another one.
fn parent(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    line.trim().parse().ok()
}

fn has_end(pid: u32, pipe: &Pipe) -> bool {
    numbers(pid).into_iter().any(|fd| {
        let same = Stat::cached(&format!("/proc/{pid}/fd/{fd}"))
            .is_some_and(|stat| stat.inode == pipe.inode && stat.is_pipe());
        same && flags(pid, fd).is_some_and(|flags| {
            let mode = flags & libc::O_ACCMODE;
            let other = if pipe.reads {
                libc::O_WRONLY
            } else {
                libc::O_RDONLY
            };
            mode == other || mode == libc::O_RDWR
        })
    })
}

/// `name (pid)`.
fn process(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    match name.trim() {
        "" => pid.to_string(),
        name => format!("{name} ({pid})"),
    }
}

fn databases(pid: u32) -> Vec<Database> {
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

/// Adds who else holds a lock on a file, and its path if one of them still has it open. Of this
/// process nothing is said: by now the lock may be its own.
fn complete_locked(file: &mut LockedFile, own: u32) {
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    let mut others = holders(&locks, file.inode);
    others.remove(&own);
    let path_of = |&pid: &u32| {
        let mut places = numbers(pid)
            .into_iter()
            .map(|fd| format!("/proc/{pid}/fd/{fd}"));
        let is_it = |place: &String| Stat::cached(place).is_some_and(|s| s.inode == file.inode);
        fs::read_link(places.find(is_it)?).ok()
    };
    if file.path.is_none() {
        let path = others.iter().find_map(path_of);
        file.path = path.map(|path| path.to_string_lossy().into_owned());
    }
    file.holders = others.into_iter().map(process).collect();
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

fn named(pid: u32, own: u32) -> String {
    match pid == own {
        true => "this process itself".to_owned(),
        false => process(pid),
    }
}

/// Whether a socket waits although an event loop looks after it.
pub(crate) fn is_misused(socket: &Socket) -> bool {
    socket.blocking == Some(true) && socket.watched
}

#[cfg(test)]
mod tests {
    use std::{io::pipe, os::fd::AsRawFd as _};

    use super::*;

    #[test]
    fn the_other_end_of_a_pipe_is_found() {
        let (reader, writer) = pipe().expect("a pipe");
        let inode = fs::metadata(format!("/proc/self/fd/{}", reader.as_raw_fd()))
            .expect("a pipe")
            .ino();
        let own = std::process::id();
        let end = |fd: i32, reads| Pipe {
            fd: Some(fd as u32),
            inode,
            reads,
            peers: Vec::new(),
            child: false,
        };
        let writing = end(writer.as_raw_fd(), false);
        assert_eq!(Ends::of(own, &writing).names, ["this process itself"]);
        drop(reader);
        assert_eq!(Ends::of(own, &writing), Ends::default());
    }

    #[test]
    fn the_kernels_table_names_the_holders_of_a_lock() {
        let table = "1: POSIX  ADVISORY  WRITE 4294967 fe:00:1234 120 120\n\
                     1: -> POSIX  ADVISORY  WRITE 4294966 fe:00:1234 120 120\n\
                     2: FLOCK  ADVISORY  WRITE 4294965 fe:00:99 0 EOF\n";
        assert_eq!(holders(table, 1234), BTreeSet::from([4_294_967]));
        assert_eq!(holders(table, 1), BTreeSet::new());
    }
}
