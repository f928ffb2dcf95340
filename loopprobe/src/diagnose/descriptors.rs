//! What `/proc` tells of file descriptors beside their names: modes, who has the other end, who
//! waits for events, and locks.
//!
//! Some of this takes a look at every process, so it is asked only for polls that were long, and
//! answers are kept for a while.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
};

use super::{
    Object,
    locks::{self, Database},
    object::{Pipe, Socket},
    processes::{numbers, parent, process},
    stat::{Stat, is_local},
};

/// How long an answer is believed, in nanoseconds.
const KEEP_NS: u64 = 5_000_000_000;
/// Locks change faster.
const KEEP_LOCKS_NS: u64 = 50_000_000;
/// So many processes at the other end of a pipe are named.
const MAX_PEERS: usize = 3;

/// Looks up what is worth it for long polls only.
#[derive(Debug)]
pub struct Descriptors {
    pid: u32,
    /// The kernel's table of file locks, and the process's mounts.
    locks: Text,
    mounts: Text,
    ends: HashMap<(u64, bool), (u64, Ends)>,
    databases: (u64, Vec<Database>),
}

/// A file of `/proc`, kept for a while.
#[derive(Debug, Default)]
struct Text {
    read_ns: u64,
    text: String,
}

impl Text {
    fn read(&mut self, path: &str, keep_ns: u64, now_ns: u64) -> &str {
        if self.read_ns == 0 || self.read_ns + keep_ns <= now_ns {
            self.read_ns = now_ns;
            self.text = fs::read_to_string(path).unwrap_or_default();
        }
        &self.text
    }
}

impl Descriptors {
    /// Of a process.
    pub fn of(pid: u32) -> Self {
        Self {
            pid,
            locks: Text::default(),
            mounts: Text::default(),
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
            Object::Locked(file) => {
                let locks = self.locks.read("/proc/locks", KEEP_LOCKS_NS, now_ns);
                locks::complete(file, locks, self.pid);
            }
            Object::File {
                path,
                opened_to_read: Some(reads),
            } => {
                if let Some(pipe) = self.named_pipe(path, *reads, now_ns) {
                    let file = Object::File {
                        path: std::mem::take(path),
                        opened_to_read: None,
                    };
                    *object = Object::Any(vec![file, Object::Pipe(pipe)]);
                }
            }
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

    /// The pipe that has a path, if one has.
    fn named_pipe(&mut self, path: &str, reads: bool, now_ns: u64) -> Option<Pipe> {
        let mounts = format!("/proc/{}/mountinfo", self.pid);
        let mounts = self.mounts.read(&mounts, KEEP_NS, now_ns);
        if !is_local(mounts, path) {
            return None;
        }
        let stat = Stat::cached(&format!("/proc/{}/root{path}", self.pid))?;
        stat.is_pipe().then(|| Pipe {
            fd: None,
            inode: stat.inode,
            reads,
            peers: Vec::new(),
            child: false,
        })
    }

    /// The SQLite files that the process has open, those with a lock first.
    pub fn databases(&mut self, now_ns: u64) -> &[Database] {
        if self.databases.0 + KEEP_NS <= now_ns || self.databases.0 == 0 {
            self.databases = (now_ns, locks::databases(self.pid));
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
    use std::{io::pipe, os::fd::AsRawFd as _, os::unix::fs::MetadataExt as _};

    use nix::sys::stat::Mode;

    use super::*;

    #[test]
    fn a_named_pipe_that_is_opened_is_a_pipe_and_a_file_is_not() {
        let name = format!("loopprobe-{}-opened", std::process::id());
        let [named, plain] =
            ["pipe", "file"].map(|end| std::env::temp_dir().join(format!("{name}.{end}")));
        nix::unistd::mkfifo(&named, Mode::S_IRUSR).expect("a pipe");
        fs::write(&plain, "").expect("a file");
        let opened = |path: &std::path::Path, opened_to_read| {
            let mut object = Object::File {
                path: path.to_string_lossy().into_owned(),
                opened_to_read,
            };
            Descriptors::of(std::process::id()).complete(&mut object, 1);
            object
        };
        let pipe = opened(&named, Some(true));
        let kinds: Vec<_> = pipe.each().collect();
        assert!(
            matches!(
                kinds[..],
                [Object::File { .. }, Object::Pipe(Pipe { reads: true, .. })]
            ),
            "{kinds:?}"
        );
        assert!(matches!(opened(&named, None), Object::File { .. }));
        assert!(matches!(opened(&plain, Some(true)), Object::File { .. }));
        for path in [named, plain] {
            let _ = fs::remove_file(path);
        }
    }

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
}
