//! Names of code that a running program has made itself, as its `/tmp/perf-PID.map` gives them.
//!
//! V8 writes such a file with `--perf-basic-prof`, CPython 3.12 with `-X perf`; its form is perf's
//! (`tools/perf/Documentation/jit-interface.txt`): a line each, `START SIZE name`, numbers in hex.
//! Who writes it can write anything: it must be the target's user or root, and what it says is only
//! ever printed.

use std::{
    collections::BTreeMap,
    fs::File,
    os::{
        fd::OwnedFd,
        unix::fs::{FileExt as _, MetadataExt as _},
    },
    time::{Duration, Instant},
};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

use crate::{
    elf::ProcAddr,
    model::{Frame, Role},
};

/// A file is read no further than this, in bytes.
const MAX_READ: u64 = 64 << 20;
/// What is read at a time, in bytes; of a longer line, the rest is lost.
const CHUNK: usize = 1 << 20;
/// Functions kept.
const MAX_FUNCTIONS: usize = 1 << 20;
/// Longer names are cut, in characters.
const MAX_NAME: usize = 200;
/// Between two looks at a file that may have grown.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Write permission of group and others.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// The names of one process's own code.
#[derive(Debug)]
pub struct PerfMap {
    /// The process's root folder.
    root: OwnedFd,
    /// The file, seen from there.
    path: String,
    /// The process's user.
    uid: u32,
    file: Option<File>,
    read: u64,
    looked: Option<Instant>,
    functions: Functions,
}

/// By start: end and name. What came later has replaced what it overlaps.
#[derive(Debug, Default)]
struct Functions(BTreeMap<u64, (u64, String)>);

impl PerfMap {
    /// Of the process that has this root folder, this id in its own namespace, and this user. The
    /// file need not be there yet.
    pub fn of(root: OwnedFd, pid: u32, uid: u32) -> Self {
        Self {
            root,
            path: format!("tmp/perf-{pid}.map"),
            uid,
            file: None,
            read: 0,
            looked: None,
            functions: Functions::default(),
        }
    }

    /// A frame of code that lies in no file.
    pub fn frame(&mut self, address: ProcAddr) -> Frame {
        self.look();
        let name = self.functions.at(address.0);
        let role = name.map_or(Role::Unknown, role);
        Frame {
            function: name.map(str::to_owned),
            address: Some(address.0),
            role,
            runtime: role.is_plumbing(),
            ..Frame::default()
        }
    }

    /// Reads what has been added, if it is time.
    fn look(&mut self) {
        if self.looked.is_some_and(|at| at.elapsed() < LOOK_EVERY) {
            return;
        }
        self.looked = Some(Instant::now());
        if self.file.is_none() {
            self.file = self.open();
        }
        let Some(file) = &self.file else {
            return;
        };
        let mut chunk = vec![0; CHUNK];
        while self.read < MAX_READ {
            let Ok(len @ 1..) = file.read_at(&mut chunk, self.read) else {
                return;
            };
            // The last line may not be whole yet.
            let lines = memchr::memrchr(b'\n', &chunk[..len]).map(|at| at + 1);
            let Some(whole) = lines.or((len == CHUNK).then_some(CHUNK)) else {
                return;
            };
            self.functions.add(&chunk[..whole]);
            self.read += whole as u64;
        }
    }

    /// Only a file of the process's user or of root that nobody else can write to. No link leads
    /// out of the process's root.
    fn open(&self) -> Option<File> {
        let how = OpenHow::new()
            .flags(OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        let file = File::from(openat2(&self.root, self.path.as_str(), how).ok()?);
        let metadata = file.metadata().ok()?;
        let is_theirs = metadata.uid() == self.uid || metadata.uid() == 0;
        (metadata.is_file() && is_theirs && metadata.mode() & WRITABLE_BY_OTHERS == 0)
            .then_some(file)
    }
}

impl Functions {
    fn at(&self, address: u64) -> Option<&str> {
        let (_, (end, name)) = self.0.range(..=address).next_back()?;
        (address < *end).then_some(name)
    }

    fn add(&mut self, lines: &[u8]) {
        for line in String::from_utf8_lossy(lines).lines() {
            if let Some((start, end, name)) = parse(line) {
                self.insert(start, end, name);
            }
        }
    }

    fn insert(&mut self, start: u64, end: u64, name: String) {
        let before = self.0.range(..start).next_back();
        let reaches_in = before.filter(|(_, (before, _))| *before > start);
        let mut stale: Vec<u64> = reaches_in.map(|(at, _)| *at).into_iter().collect();
        stale.extend(self.0.range(start..end).map(|(at, _)| *at));
        for at in stale {
            self.0.remove(&at);
        }
        if self.0.len() < MAX_FUNCTIONS {
            self.0.insert(start, (end, name));
        }
    }
}

fn parse(line: &str) -> Option<(u64, u64, String)> {
    let mut words = line.splitn(3, ' ');
    let number = |word: &str| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok();
    let (start, size) = (number(words.next()?)?, number(words.next()?)?);
    let name: String = words
        .next()?
        .chars()
        .filter(|c| !c.is_control())
        .take(MAX_NAME)
        .collect();
    (size > 0 && !name.is_empty()).then_some((start, start.checked_add(size)?, name))
}

/// How V8 begins the names of its code (`src/logging/log.cc`, `LogEventListener::CodeTag`).
const V8: [&str; 10] = [
    "JS:",
    "LazyCompile:",
    "Function:",
    "Script:",
    "Eval:",
    "Builtin:",
    "Stub:",
    "RegExp:",
    "Handler:",
    "BytecodeHandler:",
];

/// Whose interpreter runs the code. Others than CPython's and V8's names say nothing of it.
fn role(name: &str) -> Role {
    if name.starts_with("py::") {
        Role::CPython
    } else if V8.iter().any(|tag| name.starts_with(tag)) {
        Role::V8
    } else {
        Role::Unknown
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::PermissionsExt as _,
        path::{Path, PathBuf},
        sync::atomic::{AtomicU32, Ordering},
    };

    use super::*;

    const OWN: u32 = 0o600;

    /// A folder that goes with its test.
    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Self {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("loopprobe-perf-map-{}-{number}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::create_dir(&path).expect("a folder");
            Self(path)
        }

        fn path(&self) -> &Path {
            &self.0
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// A map of process 7 in a root folder of its own.
    fn map(text: &str, mode: u32, uid: u32) -> (Folder, PerfMap) {
        let root = Folder::new();
        let file = root.path().join("tmp/perf-7.map");
        fs::create_dir(root.path().join("tmp")).expect("a folder");
        fs::write(&file, text).expect("a file");
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("a mode");
        let found = PerfMap::of(open(root.path()), 7, uid);
        (root, found)
    }

    fn open(folder: &Path) -> OwnedFd {
        File::open(folder).expect("a folder").into()
    }

    fn own_uid() -> u32 {
        nix::unistd::geteuid().as_raw()
    }

    fn name(map: &mut PerfMap, address: u64) -> Option<String> {
        map.frame(ProcAddr(address)).function
    }

    #[test]
    fn addresses_have_the_names_that_came_last() {
        let text = "1000 100 py::handler:/app/x.py\n1100 10 JS:~tick file:///a.js:3\n\
                    1080 100 LazyCompile:*sum a.js:9\nnonsense\n2000 0 empty\nffffffffffffffff 2 beyond\n\
                    3000 10 \u{1b}[31mred\n4000 10 cut sho";
        let (_root, mut map) = map(text, OWN, own_uid());
        assert_eq!(
            name(&mut map, 0x10ff).as_deref(),
            Some("LazyCompile:*sum a.js:9")
        );
        assert_eq!(
            name(&mut map, 0x1105).as_deref(),
            Some("LazyCompile:*sum a.js:9")
        );
        assert_eq!(name(&mut map, 0x1180), None);
        assert_eq!(name(&mut map, 0x1000), None);
        assert_eq!(name(&mut map, 0x3000).as_deref(), Some("[31mred"));
        assert_eq!(name(&mut map, 0x4000), None);
        let frame = map.frame(ProcAddr(0x1080));
        assert_eq!((frame.role, frame.address), (Role::V8, Some(0x1080)));
    }

    #[test]
    fn what_is_added_later_is_read_later() {
        let (root, mut map) = map("1000 10 py::a:x\n", OWN, own_uid());
        assert!(name(&mut map, 0x1000).is_some());
        let file = root.path().join("tmp/perf-7.map");
        let text = fs::read_to_string(&file).expect("the file") + "2000 10 py::b:x\n";
        fs::write(&file, text).expect("the file");
        assert_eq!(name(&mut map, 0x2000), None);
        map.looked = None;
        assert_eq!(name(&mut map, 0x2000).as_deref(), Some("py::b:x"));
    }

    #[test]
    fn a_file_that_anybody_may_have_written_is_not_read() {
        const LINE: &str = "1000 10 py::a:x\n";
        for (mode, uid, expected) in [
            (0o644, own_uid(), true),
            (0o664, own_uid(), false),
            (0o646, own_uid(), false),
            // Root's files are believed whoever the target's user is.
            (0o644, own_uid() + 1, own_uid() == 0),
        ] {
            let (_root, mut map) = map(LINE, mode, uid);
            assert_eq!(name(&mut map, 0x1000).is_some(), expected, "{mode:o} {uid}");
        }
    }

    #[test]
    fn no_link_leads_out_of_the_processs_root() {
        let (outside, _) = map("1000 10 py::a:x\n", OWN, own_uid());
        for link in ["tmp", "tmp/perf-7.map"] {
            let root = Folder::new();
            if link != "tmp" {
                fs::create_dir(root.path().join("tmp")).expect("a folder");
            }
            std::os::unix::fs::symlink(outside.path().join(link), root.path().join(link))
                .expect("a link");
            let mut map = PerfMap::of(open(root.path()), 7, own_uid());
            assert_eq!(name(&mut map, 0x1000), None, "{link}");
        }
    }
}
