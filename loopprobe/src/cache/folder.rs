//! The folder where files that have been seen are remembered: this user's own, or none.

use std::{
    env,
    fs::File,
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::{AtFlags, OFlag, open, openat, renameat},
    sys::stat::{FileStat, Mode, fstat, fstatat, futimens, mkdirat},
    sys::time::TimeSpec,
    unistd::{UnlinkatFlags, User, geteuid, unlinkat},
};

/// Its name in the user's cache folder.
const NAME: &str = "loopprobe";
/// The most that all entries take, in bytes.
pub(super) const MAX_BYTES: u64 = 64 << 20;
/// The most entries.
pub(super) const MAX_ENTRIES: usize = 512;
/// A larger entry is neither written nor read.
pub(super) const MAX_ENTRY: u64 = 8 << 20;
/// What a mode allows the group and all others.
const FOR_OTHERS: u32 = 0o077;
/// Entries have this in front while they are written. What is left of a loopprobe that was killed
/// goes after an hour.
const UNFINISHED: &str = ".unfinished-";
const UNFINISHED_FOR: Duration = Duration::from_secs(60 * 60);

/// An open folder that belongs to this user, and that nobody else may look into.
#[derive(Debug)]
pub(super) struct Folder(OwnedFd);

impl Folder {
    /// `loopprobe` in `$XDG_CACHE_HOME`, or else in `~/.cache`; made if it is not there.
    ///
    /// # Errors
    /// Why there is none that could be used: the caller goes on without.
    pub(super) fn open() -> io::Result<Self> {
        let cache = match cache_home() {
            Some(path) => directory(&path)?,
            None => below(&directory(&home()?)?, ".cache", false)?,
        };
        below(&cache, NAME, true).map(Self)
    }

    /// The bytes of an entry. The look makes it the latest that was used.
    ///
    /// # Errors
    /// When there is none that could be trusted.
    pub(super) fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = File::from(openat(&self.0, name, flags, Mode::empty())?);
        let metadata = file.metadata()?;
        let is_own = metadata.uid() == geteuid().as_raw() && metadata.mode() & FOR_OTHERS == 0;
        if !metadata.is_file() || !is_own || metadata.nlink() > 1 || metadata.len() > MAX_ENTRY {
            return Err(io::Error::other(
                "it is not a file that this user alone has written",
            ));
        }
        let mut bytes = Vec::with_capacity(metadata.len() as usize);
        (&file).take(MAX_ENTRY).read_to_end(&mut bytes)?;
        let _ = futimens(&file, &TimeSpec::UTIME_OMIT, &TimeSpec::UTIME_NOW);
        Ok(bytes)
    }

    /// Writes an entry, in place of whatever has that name, and lets old ones go.
    ///
    /// # Errors
    /// What the kernel gives; no half an entry is left under that name.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        if bytes.len() as u64 > MAX_ENTRY {
            return Err(io::Error::other("it is too large to be remembered"));
        }
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        // A process in another PID namespace may have the same number.
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.map_or(0, |now| now.as_nanos());
        let unfinished = format!("{UNFINISHED}{}-{count}-{now}", process::id());
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        let mut file = File::from(openat(&self.0, unfinished.as_str(), flags, mode)?);
        let written = file.write_all(bytes).and_then(|()| {
            renameat(&self.0, unfinished.as_str(), &self.0, name).map_err(io::Error::from)
        });
        if written.is_err() {
            self.remove(&unfinished);
        }
        written?;
        self.trim(name)
    }

    /// Removes the entries that were used longest ago, until the bounds hold; never `kept`.
    fn trim(&self, kept: &str) -> io::Result<()> {
        let mut entries = self.entries()?;
        entries.sort_by_key(|entry| entry.used);
        let mut bytes: u64 = entries.iter().map(|entry| entry.size).sum();
        let mut count = entries.len();
        for entry in entries {
            let is_over = bytes > MAX_BYTES || count > MAX_ENTRIES;
            if entry.name != kept && (is_over || entry.is_left_over()) {
                self.remove(&entry.name);
                bytes = bytes.saturating_sub(entry.size);
                count -= 1;
            }
        }
        Ok(())
    }

    fn entries(&self) -> io::Result<Vec<Entry>> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut listed = Dir::openat(&self.0, ".", flags, Mode::empty())?;
        let names = listed.iter().filter_map(|entry| {
            let name = entry.ok()?.file_name().to_str().ok()?.to_owned();
            is_entry(&name).then_some(name)
        });
        let entries = names.filter_map(|name| {
            let stat = fstatat(&self.0, name.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW).ok()?;
            Some(Entry {
                used: (stat.st_mtime, stat.st_mtime_nsec),
                size: stat.st_size.cast_unsigned(),
                name,
            })
        });
        Ok(entries.collect())
    }

    fn remove(&self, name: &str) {
        // Another loopprobe may have been faster.
        let _ = unlinkat(&self.0, name, UnlinkatFlags::NoRemoveDir);
    }
}

/// A file in the folder.
struct Entry {
    name: String,
    used: (i64, i64),
    size: u64,
}

impl Entry {
    fn is_left_over(&self) -> bool {
        let began =
            SystemTime::UNIX_EPOCH + Duration::from_secs(self.used.0.max(0).cast_unsigned());
        let age = SystemTime::now().duration_since(began);
        self.name.starts_with(UNFINISHED) && age.is_ok_and(|age| age > UNFINISHED_FOR)
    }
}

/// Whether a name is one that loopprobe gives: nothing else is counted, or removed.
fn is_entry(name: &str) -> bool {
    let is_hex = |name: &str| name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit());
    name.starts_with(UNFINISHED) || is_hex(name)
}

/// `$XDG_CACHE_HOME`, if this user's. A relative path is none, as the specification has it.
fn cache_home() -> Option<PathBuf> {
    let path = PathBuf::from(env::var_os("XDG_CACHE_HOME")?);
    let is_own = path.is_absolute() && directory(&path).is_ok();
    is_own.then_some(path)
}

/// `$HOME` if it is this user's, as it is not under every sudo; else what the password database
/// says.
fn home() -> io::Result<PathBuf> {
    let named = env::var_os("HOME").map(PathBuf::from);
    let own = named.filter(|path| path.is_absolute() && directory(path).is_ok());
    let user = || User::from_uid(geteuid()).ok().flatten();
    own.or_else(|| Some(user()?.dir))
        .ok_or_else(|| io::Error::other("this user has no home"))
}

/// A folder that is this user's own, wherever links lead on the way to it: the administrator's are
/// trusted, and what they lead to is looked at.
fn directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let folder = open(path, flags, Mode::empty())?;
    check(&fstat(folder.as_fd())?, false)?;
    Ok(folder)
}

/// A folder in a folder, made if it is not there; no link is followed.
fn below(folder: &OwnedFd, name: &str, is_private: bool) -> io::Result<OwnedFd> {
    match mkdirat(folder, name, Mode::S_IRWXU) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let inner = openat(folder, name, flags, Mode::empty())?;
    check(&fstat(inner.as_fd())?, is_private)?;
    Ok(inner)
}

/// Whether a folder is this user's, and nobody else may write to it, or look into a private one.
fn check(stat: &FileStat, is_private: bool) -> io::Result<()> {
    let forbidden = if is_private { FOR_OTHERS } else { 0o022 };
    if stat.st_uid != geteuid().as_raw() {
        return Err(io::Error::other("it belongs to another user"));
    }
    if stat.st_mode & forbidden != 0 {
        return Err(io::Error::other("others may write to it, or look into it"));
    }
    Ok(())
}
