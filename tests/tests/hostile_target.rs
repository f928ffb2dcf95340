//! A target that wants to harm whoever looks at it: by its names, and by changing its files while
//! they are read.

use std::fs::{self, OpenOptions};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use loopprobe_tests::folder::Folder;
use loopprobe_tests::matrix::{Build, Profile, loopprobe, target};
use loopprobe_tests::session::Session;
use loopprobe_tests::share_machine;
use loopprobe_tests::target::{Target, wait};
use object::{Object as _, ObjectSegment as _};

/// Changes the colour, moves the cursor, sets the window's title, and turns the direction of text
/// around. The kernel names the process and its threads after the first 15 bytes.
const NAME: &str = "x\x1b[31m\x1b[2J\x07\u{202e}\x1b]0;owned\x07";

fn copy(file: &Path, to: PathBuf) -> Result<PathBuf> {
    fs::copy(file, &to)?;
    fs::set_permissions(&to, fs::Permissions::from_mode(0o755))?;
    Ok(to)
}

/// On most systems.
const NOBODY: u32 = 65_534;
/// Neither root nor `nobody`.
const SOMEBODY: u32 = 65_533;

/// No character that a terminal would obey. JSON is for programs: what turns text around stands
/// there as it is.
fn harmless(what: &str, bytes: &[u8]) -> Result<()> {
    let text = String::from_utf8_lossy(bytes);
    let turned = |c| c == '\u{202e}' && !what.contains("json");
    let obeyed = text
        .chars()
        .find(|&c| (c.is_control() && c != '\n' && c != '\t') || turned(c));
    ensure!(obeyed.is_none(), "{what} has {obeyed:?}: {text}");
    Ok(())
}

fn run(args: &[&str]) -> Result<Output> {
    Ok(Command::new(loopprobe()?)
        .args(args)
        .stdin(Stdio::null())
        .output()?)
}

#[test]
fn names_of_files_threads_and_processes_do_not_reach_a_terminal_as_commands() -> Result<()> {
    share_machine!();
    let folder = Folder::new("names")?;
    let program = copy(&target(Build::DEFAULT, "truth")?, folder.path().join(NAME))?;
    let mut target = Target::start(&program, &["sleep", "--gate", "inside", "--hold"])?;
    let pid = target.pid().to_string();
    let views = ["svg", "html", "folded", "json"].map(|kind| folder.file(kind));
    let session = Command::new(loopprobe()?)
        .args(["attach", "--pid", &pid, "--duration", "4s"])
        .args(["--flamegraph", &views[0], "--html", &views[1]])
        .args(["--folded", &views[2], "--speedscope", &views[3]])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    // The session may begin after the polls: what matters is the names.
    std::thread::sleep(Duration::from_secs(2));
    target.work()?;
    let output = session.wait_with_output()?;
    ensure!(output.status.success(), "{output:?}");
    ensure!(!output.stdout.is_empty(), "nothing was said");
    harmless("attach", &output.stdout)?;
    harmless("attach's stderr", &output.stderr)?;
    for view in &views {
        harmless(view, &fs::read(view)?)?;
    }
    let path = program.to_str().context("a name of characters")?;
    for args in [
        &["ps"][..],
        &["inspect", path],
        &["inspect", "--pid", &pid],
        &["doctor", "--pid", &pid],
        &["inspect", "--json", path],
    ] {
        let output = run(args)?;
        ensure!(!output.stdout.is_empty(), "{args:?}: {output:?}");
        harmless(&format!("{args:?}"), &output.stdout)?;
        harmless(&format!("{args:?}"), &output.stderr)?;
    }
    Ok(())
}

#[test]
fn names_in_errors_do_not_reach_a_terminal_as_commands() -> Result<()> {
    let folder = Folder::new("errors")?;
    let broken = folder.path().join(NAME);
    fs::write(&broken, b"\x7fELF and nothing else")?;
    let path = broken.to_str().context("a name of characters")?;
    for args in [
        &["inspect", path][..],
        &["report", path],
        &["attach", "--name", NAME],
        &["run", "--", path],
    ] {
        let output = run(args)?;
        ensure!(!output.status.success(), "{args:?} went well");
        harmless(&format!("{args:?}"), &output.stderr)?;
    }
    Ok(())
}

/// A program at work that has loaded a library of this owner's.
fn loaded(host: &Path, library: &Path, owner: u32, rounds: u32) -> Result<Target> {
    std::os::unix::fs::chown(library, Some(owner), Some(owner))?;
    let rounds = rounds.to_string();
    let mut target = Target::start(host, &[&library.to_string_lossy(), &rounds])?;
    target.send("load")?;
    target.until("loaded", Duration::from_secs(10))?;
    target.send("go")?;
    Ok(target)
}

#[test]
fn a_library_that_its_owner_cuts_short_while_it_is_read_does_not_kill_loopprobe() -> Result<()> {
    share_machine!();
    let build = Build {
        profile: Profile::DebugInfo,
        ..Build::DEFAULT
    };
    let host = target(Build::DEFAULT, "late_tokio")?;
    let library = target(build, "libplugin.so")?;
    let folder = Folder::new("cut")?;
    for round in 0..8 {
        let copy = copy(&library, folder.path().join(format!("{round}.so")))?;
        // Of root's files blazesym gets no copy.
        let owner = if round % 2 == 0 { NOBODY } else { 0 };
        let target = loaded(&host, &copy, owner, 400)?;
        let mut session = Command::new(loopprobe()?)
            .args(["attach", "--pid", &target.pid().to_string()])
            .args(["--duration", "3s", "--quiet"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        std::thread::sleep(Duration::from_millis(150 * round));
        // The target runs into what is no longer there; that is its owner's doing, and loopprobe
        // must see it end.
        OpenOptions::new().write(true).open(&copy)?.set_len(4096)?;
        let status = wait(&mut session, Duration::from_mins(1))?;
        ensure!(
            status.code().is_some(),
            "loopprobe was killed in round {round}: {status}"
        );
    }
    Ok(())
}

/// What becomes of a file.
type Change = fn(&Path) -> Result<()>;

/// Behind what is loaded, so that the target lives on.
fn cut(file: &Path) -> Result<()> {
    let bytes = fs::read(file)?;
    let parsed = object::File::parse(bytes.as_slice())?;
    let ends = parsed.segments().map(|segment| {
        let (offset, size) = segment.file_range();
        offset + size
    });
    let end = ends.max().context("segments")?;
    ensure!(end < bytes.len() as u64, "all of it is loaded");
    Ok(OpenOptions::new().write(true).open(file)?.set_len(end)?)
}

/// As a package update does.
fn replace(file: &Path) -> Result<()> {
    let new = file.with_extension("new");
    fs::write(&new, b"another file")?;
    Ok(fs::rename(&new, file)?)
}

#[test]
fn a_library_that_is_cut_short_or_replaced_while_it_is_observed_ends_no_session() -> Result<()> {
    share_machine!();
    let build = Build {
        profile: Profile::DebugInfo,
        ..Build::DEFAULT
    };
    let host = target(Build::DEFAULT, "late_tokio")?;
    let library = target(build, "libplugin.so")?;
    let folder = Folder::new("changed")?;
    let changes: [(&str, Change); 2] = [("cut", cut), ("replaced", replace)];
    for (name, change) in changes {
        for owner in [NOBODY, 0] {
            let copy = copy(&library, folder.path().join(format!("{name}-{owner}.so")))?;
            let target = loaded(&host, &copy, owner, 1000)?;
            let mut session = Session::attach(target.pid(), &[])?;
            // Nothing of it has a name yet, or only the first poll has.
            change(&copy)?;
            for _ in 0..5 {
                session.next_poll(Duration::from_secs(30))?;
            }
            let report = session.interrupt()?;
            ensure!(
                report.status.success() && !report.errors.contains("panicked"),
                "{name}, owner {owner}: {}: {}",
                report.status,
                report.errors
            );
        }
    }
    Ok(())
}

#[test]
fn a_mapped_path_that_has_become_a_link_leads_nowhere() -> Result<()> {
    share_machine!();
    let folder = Folder::new("link")?;
    let program = copy(
        &target(Build::DEFAULT, "truth")?,
        folder.path().join("program"),
    )?;
    let secret = folder.path().join("secret");
    fs::write(&secret, "\x7fELF precious")?;
    let target = Target::start(&program, &["sleep", "--gate", "inside", "--hold"])?;
    fs::remove_file(&program)?;
    symlink(&secret, &program)?;
    // The name that the kernel shows for the deleted file now leads elsewhere; a file beside it is
    // there, too.
    let mut deleted = program.as_os_str().as_bytes().to_vec();
    deleted.extend(b" (deleted)");
    symlink(&secret, std::ffi::OsStr::from_bytes(&deleted))?;
    let output = run(&["inspect", "--pid", &target.pid().to_string()])?;
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    // Root reaches the very file that is mapped; others are told that it was replaced. Nobody reads
    // the link.
    ensure!(
        said.contains("poll") || said.contains("replaced") || said.contains("Tokio"),
        "{said}"
    );
    ensure!(!said.contains("precious"), "{said}");
    Ok(())
}

#[test]
fn an_output_in_a_folder_of_others_is_not_written_through_what_they_put_there() -> Result<()> {
    share_machine!();
    let folder = Folder::new("planted")?;
    let victim = folder.path().join("victim");
    fs::write(&victim, "precious")?;
    let (shared, foreign) = (folder.path().join("shared"), folder.path().join("foreign"));
    for (trap, owner, mode) in [(&shared, 0, 0o1777), (&foreign, SOMEBODY, 0o755)] {
        fs::create_dir(trap)?;
        std::os::unix::fs::chown(trap, Some(owner), Some(owner))?;
        fs::set_permissions(trap, fs::Permissions::from_mode(mode))?;
        symlink(&victim, trap.join("link"))?;
        fs::hard_link(&victim, trap.join("hard"))?;
        ensure!(
            Command::new("mkfifo")
                .arg(trap.join("pipe"))
                .status()?
                .success(),
            "mkfifo"
        );
        for name in ["link", "hard", "pipe"] {
            let path = trap.join(name).display().to_string();
            for option in ["--output", "--flamegraph", "--html", "--folded"] {
                let mut child = Command::new(loopprobe()?)
                    .args(["run", option, &path, "--", "true"])
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn()?;
                let status = wait(&mut child, Duration::from_secs(20))?;
                ensure!(status.code() == Some(1), "{option} {path}: {status}");
            }
        }
    }
    ensure!(
        fs::read_to_string(&victim)? == "precious",
        "it was written to"
    );
    Ok(())
}
