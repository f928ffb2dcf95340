//! What is remembered of files gives what the files give, and nothing else is ever used.

use std::{
    collections::BTreeSet,
    ffi::CString,
    fs::{self, File, OpenOptions, Permissions},
    io,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink},
    },
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, ensure};
use loopprobe_tests::{
    folder::Folder,
    matrix::{self, Build, Profile},
    privileges::{self, place},
    session::Session,
    share_machine,
    target::Target,
};

/// A file that was changed more recently is not remembered by its state.
const SETTLED: Duration = Duration::from_millis(3200);
/// `--log-level debug` says so.
const USED: &str = "cache: knows the names of";
/// The bounds that docs/cache.md promises.
const MOST_ENTRIES: usize = 512;
const MOST_BYTES: u64 = 64 << 20;

/// A cache folder of a test's own.
struct Cache(Folder);

impl Cache {
    fn new() -> Result<Self> {
        let folder = Folder::new("cache")?;
        fs::set_permissions(folder.path(), Permissions::from_mode(0o700))?;
        Ok(Self(folder))
    }

    /// A command that uses it.
    fn command(&self) -> Result<Command> {
        let mut command = Command::new(matrix::loopprobe()?);
        command
            .env_remove("LOOPPROBE_NO_CACHE")
            .env("XDG_CACHE_HOME", self.0.path());
        Ok(command)
    }

    /// What `inspect` says of a file, and whether it knew its names.
    fn inspect(&self, file: &Path) -> Result<(String, bool)> {
        let mut command = self.command()?;
        command.args(["inspect", "--json", "--log-level", "debug"]);
        let output = command.arg(file).output()?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{errors}");
        let used = errors.contains(USED);
        Ok((String::from_utf8(output.stdout)?, used))
    }

    fn folder(&self) -> PathBuf {
        self.0.path().join("loopprobe")
    }

    /// All entries.
    fn entries(&self) -> Result<Vec<PathBuf>> {
        let listed = fs::read_dir(self.folder())?.map(|entry| Ok(entry?.path()));
        listed.collect()
    }
}

/// The same without remembering anything.
fn truth(file: &Path) -> Result<String> {
    let mut command = Command::new(matrix::loopprobe()?);
    let output = command
        .args(["inspect", "--json", "--no-cache"])
        .arg(file)
        .output()?;
    ensure!(output.status.success(), "{output:?}");
    Ok(String::from_utf8(output.stdout)?)
}

/// Asks once more and wants the truth, from memory or not.
fn expect(cache: &Cache, file: &Path, used: bool) -> Result<()> {
    let (said, was_used) = cache.inspect(file)?;
    ensure!(was_used == used, "{}: used {was_used}", file.display());
    ensure!(
        said == truth(file)?,
        "{}: not what is there",
        file.display()
    );
    Ok(())
}

/// A copy of a target that nothing else changes.
fn copy(folder: &Folder, build: Build) -> Result<PathBuf> {
    let path = folder.path().join("zoo");
    fs::copy(matrix::target(build, "zoo")?, &path)?;
    Ok(path)
}

fn stripped(folder: &Folder) -> Result<PathBuf> {
    copy(folder, Build::DEFAULT.stripped())
}

fn chown(path: &Path, owner: u32) -> Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the path ends with a NUL.
    let result = unsafe { libc::lchown(path.as_ptr(), owner, owner) };
    ensure!(result == 0, "chown: {}", io::Error::last_os_error());
    Ok(())
}

/// Writes into a file where it is, and gives it back its size and the time of its last write.
fn replace_in_place(path: &Path, from: &[u8], to: &[u8]) -> Result<usize> {
    ensure!(from.len() == to.len());
    let written = fs::metadata(path)?.modified()?;
    let bytes = fs::read(path)?;
    let file = OpenOptions::new().write(true).open(path)?;
    let windows = bytes.windows(from.len()).enumerate();
    let places: Vec<_> = windows.filter(|(_, bytes)| *bytes == from).collect();
    for (at, _) in &places {
        file.write_all_at(to, *at as u64)?;
    }
    file.set_modified(written)?;
    Ok(places.len())
}

#[test]
fn what_is_remembered_is_what_the_file_gives() -> Result<()> {
    let _place = place()?;
    let debug_info = Build {
        profile: Profile::DebugInfo,
        ..Build::DEFAULT
    };
    for build in [Build::DEFAULT, Build::DEFAULT.stripped(), debug_info] {
        let (cache, folder) = (Cache::new()?, Folder::new("file")?);
        let file = copy(&folder, build)?;
        thread::sleep(SETTLED);
        expect(&cache, &file, false)?;
        expect(&cache, &file, true)?;
        let output = (cache.command()?)
            .args(["inspect", "--no-cache", "--log-level", "debug"])
            .arg(&file)
            .output()?;
        ensure!(!String::from_utf8_lossy(&output.stderr).contains("cache:"));
    }
    Ok(())
}

#[test]
fn a_second_session_has_the_same_head_and_names() -> Result<()> {
    share_machine!();
    let cache = Cache::new()?;
    let program = matrix::target(Build::DEFAULT.stripped(), "busy")?;
    let mut target = Target::start(
        &program,
        &["block", "--millis", "120000", "--rounds", "30000"],
    )?;
    let session = |args: &[&str]| -> Result<_> {
        let mut command = cache.command()?;
        command.args(["attach", "--pid", &target.pid().to_string()]);
        command.args(["--format", "json", "--log-level", "debug"]);
        let mut session = Session::spawn(command.args(args))?;
        session.next_poll(Duration::from_secs(20))?;
        session.signal(libc::SIGINT);
        let report = session.finish()?;
        let used = report.errors.contains(USED);
        let tasks = report.polls.iter().map(|poll| poll.task.clone());
        let tasks: BTreeSet<_> = tasks.map(|task| format!("{task:?}")).collect();
        let mut head = report.head;
        (head.start_ns, head.start_unix_ns) = (0, 0);
        Ok((head, tasks, used))
    };
    let (without, first, second) = (session(&["--no-cache"])?, session(&[])?, session(&[])?);
    ensure!((without.2, first.2, second.2) == (false, false, true));
    ensure!((&without.0, &without.1) == (&first.0, &first.1));
    ensure!((&first.0, &first.1) == (&second.0, &second.1));
    target.is_alive()?;
    Ok(())
}

#[test]
fn a_file_that_was_written_to_in_place_is_read_anew() -> Result<()> {
    let _place = place()?;
    let (cache, folder) = (Cache::new()?, Folder::new("file")?);
    let file = stripped(&folder)?;
    thread::sleep(SETTLED);
    expect(&cache, &file, false)?;
    expect(&cache, &file, true)?;
    let count = replace_in_place(&file, b"src/bin/zoo.rs", b"src/bin/boo.rs")?;
    ensure!(count > 0, "no location to change");
    expect(&cache, &file, false)?;
    let (said, _) = cache.inspect(&file)?;
    ensure!(said.contains("src/bin/boo.rs") && !said.contains("src/bin/zoo.rs"));
    Ok(())
}

/// Symbols are not loaded, so that the loaded bytes do not show that they have changed.
#[test]
fn symbols_that_were_written_to_in_place_are_read_anew() -> Result<()> {
    let _place = place()?;
    let (cache, folder) = (Cache::new()?, Folder::new("file")?);
    let file = copy(&folder, Build::DEFAULT)?;
    // Changed a moment ago, it may be changed again without showing it.
    expect(&cache, &file, false)?;
    expect(&cache, &file, false)?;
    thread::sleep(SETTLED);
    expect(&cache, &file, false)?;
    expect(&cache, &file, true)?;
    ensure!(replace_in_place(&file, b"3zoo", b"3boo")? > 0);
    expect(&cache, &file, false)?;
    Ok(())
}

#[test]
fn a_stripped_twin_with_the_same_build_id_is_another_file() -> Result<()> {
    let _place = place()?;
    let (cache, folder) = (Cache::new()?, Folder::new("file")?);
    let whole = copy(&folder, Build::DEFAULT)?;
    let twin = folder.path().join("twin");
    let mut strip = Command::new("strip");
    let status = strip.arg("-o").args([&twin, &whole]).status()?;
    ensure!(status.success(), "strip: {status}");
    thread::sleep(SETTLED);
    let build_id = |said: &str| -> Result<String> {
        let said: serde_json::Value = serde_json::from_str(said)?;
        Ok(said["files"][0]["build_id"].to_string())
    };
    let (id, twins_id) = (build_id(&truth(&whole)?)?, build_id(&truth(&twin)?)?);
    ensure!(id == twins_id && id != "null", "{id} {twins_id}");
    for file in [&whole, &twin] {
        expect(&cache, file, false)?;
        expect(&cache, file, true)?;
    }
    // The names of one are not those of the other, so the test would see one in place of another.
    ensure!(
        truth(&whole)?.contains("\"stripped\":false")
            && truth(&twin)?.contains("\"stripped\":true")
    );
    Ok(())
}

/// Spoils all entries, wants none to be used and then new ones in their place.
fn spoil(what: &str, spoil: impl Fn(&Path) -> Result<()>) -> Result<()> {
    let (cache, folder) = (Cache::new()?, Folder::new("file")?);
    let file = stripped(&folder)?;
    expect(&cache, &file, false)?;
    expect(&cache, &file, true)?;
    let entries = cache.entries()?;
    ensure!(!entries.is_empty());
    for entry in &entries {
        spoil(entry)?;
    }
    expect(&cache, &file, false).context(what.to_owned())?;
    expect(&cache, &file, true).context(what.to_owned())
}

#[test]
fn an_entry_that_was_tampered_with_is_not_used() -> Result<()> {
    let _place = place()?;
    spoil("another byte", |entry| {
        let mut bytes = fs::read(entry)?;
        *bytes.last_mut().context("bytes")? ^= 1;
        Ok(fs::write(entry, bytes)?)
    })?;
    spoil("half an entry", |entry| {
        let length = fs::metadata(entry)?.len();
        Ok(OpenOptions::new()
            .write(true)
            .open(entry)?
            .set_len(length / 2)?)
    })?;
    spoil("an empty entry", |entry| Ok(fs::write(entry, "")?))?;
    spoil("another format", |entry| {
        let mut bytes = fs::read(entry)?;
        bytes[15] += 1;
        Ok(fs::write(entry, bytes)?)
    })?;
    spoil("written to by all", |entry| {
        Ok(fs::set_permissions(entry, Permissions::from_mode(0o666))?)
    })?;
    spoil("a link", |entry| {
        let elsewhere = entry.with_extension("elsewhere");
        fs::rename(entry, &elsewhere)?;
        Ok(symlink(&elsewhere, entry)?)
    })?;
    spoil("a hard link", |entry| {
        Ok(fs::hard_link(entry, entry.with_extension("elsewhere"))?)
    })?;
    if privileges::is_root() {
        spoil("another user's", |entry| chown(entry, 65534))?;
    }
    Ok(())
}

/// What one user's file says is not taken for another's.
#[test]
fn a_folder_that_others_can_write_to_is_not_used() -> Result<()> {
    let _place = place()?;
    if !privileges::is_root() {
        return privileges::skip("root is needed to give folders away");
    }
    let folder = Folder::new("file")?;
    let file = stripped(&folder)?;
    let given_away = |path: &Path| chown(path, 65534);
    let open = |path: &Path| -> Result<()> {
        Ok(fs::set_permissions(path, Permissions::from_mode(0o777))?)
    };
    let link = |path: &Path| -> Result<()> {
        let elsewhere = path.with_extension("elsewhere");
        fs::rename(path, &elsewhere)?;
        Ok(symlink(&elsewhere, path)?)
    };
    let spoil = |way: &dyn Fn(&Path) -> Result<()>| -> Result<()> {
        let cache = Cache::new()?;
        expect(&cache, &file, false)?;
        expect(&cache, &file, true)?;
        let before = cache.entries()?.len();
        way(&cache.folder())?;
        expect(&cache, &file, false)?;
        expect(&cache, &file, false)?;
        ensure!(cache.entries()?.len() == before);
        Ok(())
    };
    spoil(&given_away)?;
    spoil(&open)?;
    spoil(&link)?;
    // Neither is the home of another user, as HOME may be under sudo.
    let home = Cache::new()?;
    chown(home.0.path(), 65534)?;
    let mut command = home.command()?;
    let status = (command.env("HOME", home.0.path()).arg("inspect").arg(&file))
        .stdout(File::create("/dev/null")?)
        .status()?;
    ensure!(status.success() && fs::read_dir(home.0.path())?.next().is_none());
    Ok(())
}

#[test]
fn entries_are_private_bounded_and_old_ones_go_first() -> Result<()> {
    let _place = place()?;
    let (cache, folder) = (Cache::new()?, Folder::new("file")?);
    let file = stripped(&folder)?;
    fs::create_dir(cache.folder())?;
    fs::set_permissions(cache.folder(), Permissions::from_mode(0o700))?;
    let other = cache.folder().join("somebody's notes");
    fs::write(&other, "not an entry")?;
    let aged = |name: String, bytes: u64, hours: u64| -> Result<PathBuf> {
        let path = cache.folder().join(name);
        let file = File::create(&path)?;
        file.set_len(bytes)?;
        file.set_modified(SystemTime::now() - Duration::from_hours(hours))?;
        Ok(path)
    };
    for index in 0..600 {
        aged(format!("{index:064x}"), 200 << 10, 2 + index)?;
    }
    let left_over = aged(".unfinished-1-2-3".into(), 10, 2)?;
    expect(&cache, &file, false)?;
    expect(&cache, &file, true)?;
    let entries = cache.entries()?;
    let entries: Vec<_> = entries.iter().filter(|path| **path != other).collect();
    let bytes: u64 = (entries.iter())
        .map(|path| Ok(fs::metadata(path)?.len()))
        .sum::<io::Result<u64>>()?;
    ensure!(entries.len() <= MOST_ENTRIES, "{} entries", entries.len());
    ensure!(bytes <= MOST_BYTES, "{bytes} bytes");
    ensure!(
        bytes > MOST_BYTES / 2,
        "too much was removed: {bytes} bytes are left"
    );
    ensure!(other.exists() && !left_over.exists());
    let exists = |index: u32| cache.folder().join(format!("{index:064x}")).exists();
    ensure!(exists(0) && !exists(599));
    for entry in entries
        .iter()
        .filter(|path| fs::metadata(path).is_ok_and(|m| m.blocks() > 0))
    {
        ensure!(fs::metadata(entry)?.mode() & 0o777 == 0o600, "{entry:?}");
    }
    Ok(())
}

#[test]
fn many_at_once_write_whole_entries() -> Result<()> {
    let _place = place()?;
    let (cache, folder) = (Cache::new()?, Folder::new("file")?);
    let file = stripped(&folder)?;
    let expected = truth(&file)?;
    thread::scope(|scope| -> Result<()> {
        let runs: Vec<_> = (0..6)
            .map(|_| scope.spawn(|| cache.inspect(&file)))
            .collect();
        for run in runs {
            let (said, _) = run.join().expect("no panic")?;
            ensure!(said == expected);
        }
        Ok(())
    })?;
    expect(&cache, &file, true)?;
    let unfinished = |path: &PathBuf| path.to_string_lossy().contains("unfinished");
    ensure!(!cache.entries()?.iter().any(unfinished));
    Ok(())
}

#[test]
fn ps_knows_files_that_it_has_seen() -> Result<()> {
    let _place = place()?;
    let (cache, folder) = (Cache::new()?, Folder::new("file")?);
    let program = folder.path().join("seen-before");
    fs::copy(matrix::target(Build::DEFAULT, "busy")?, &program)?;
    thread::sleep(SETTLED);
    let args = ["block", "--millis", "120000", "--rounds", "1"];
    let target = Target::start(&program, &args)?;
    let row = |args: &[&str]| -> Result<(String, usize)> {
        let mut command = cache.command()?;
        let output = command
            .args(["ps", "--log-level", "debug"])
            .args(args)
            .output()?;
        let (said, errors) = (
            String::from_utf8(output.stdout)?,
            String::from_utf8(output.stderr)?,
        );
        let pid = target.pid().to_string();
        let row = said
            .lines()
            .find(|row| row.split_whitespace().next() == Some(&pid));
        let row = row.context(said.clone())?.split_whitespace();
        // All but the age.
        let row: Vec<_> = row.enumerate().filter(|(at, _)| *at != 2).collect();
        let known = errors.lines().find_map(|line| {
            let (_, rest) = line.split_once("cache: knew ")?;
            rest.split(' ').next()?.parse().ok()
        });
        Ok((format!("{row:?}"), known.unwrap_or(0)))
    };
    let (without, first, second) = (row(&["--no-cache"])?, row(&[])?, row(&[])?);
    ensure!((without.1, first.1) == (0, 0), "{without:?} {first:?}");
    ensure!(second.1 > 1, "{second:?}");
    ensure!(
        without.0 == first.0 && first.0 == second.0,
        "{first:?} {second:?}"
    );
    Ok(())
}
