//! What the command line promises: exit codes, errors that name the thing and the next step, and
//! where output goes.

use std::{
    fs,
    io::Read as _,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _, symlink},
        process::CommandExt as _,
    },
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use loopprobe_tests::{
    matrix::{Build, loopprobe, privileged_loopprobe, target, target_dir},
    only_root,
    scenario::gated,
    take_machine, unprivileged,
};

/// Debian's and most others' `nobody`.
const NOBODY: u32 = 65534;

fn run(args: &[&str]) -> Result<Output> {
    Ok(Command::new(loopprobe()?)
        .args(args)
        .stdin(Stdio::null())
        .output()?)
}

fn expect(output: &Output, code: i32, words: &[&str]) -> Result<()> {
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.code() == Some(code),
        "{}: {errors}",
        output.status
    );
    for word in words {
        ensure!(errors.contains(word), "`{word}` is not in: {errors}");
    }
    ensure!(!errors.contains("panicked"), "{errors}");
    Ok(())
}

fn folder(name: &str) -> Result<PathBuf> {
    let path = target_dir().join("cli").join(name);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path)?;
    unprivileged::give(&path)?;
    Ok(path)
}

#[test]
fn wrong_usage_ends_with_2() -> Result<()> {
    expect(&run(&["attach"])?, 2, &["--pid"])?;
    expect(
        &run(&["attach", "--pid", "1", "--threshold", "10"])?,
        2,
        &["500us"],
    )?;
    expect(&run(&["attach", "--pid", "1", "--name", "x"])?, 2, &[])?;
    expect(&run(&["run"])?, 2, &[])
}

#[test]
fn a_process_that_does_not_exist_is_named() -> Result<()> {
    let pid = 4_194_303.to_string();
    for command in ["attach", "doctor"] {
        expect(&run(&[command, "--pid", &pid])?, 1, &[&pid, "loopprobe ps"])?;
    }
    let name = "no-such-process-here";
    expect(
        &run(&["attach", "--name", name])?,
        1,
        &[name, "loopprobe ps"],
    )
}

#[test]
fn a_process_without_tokio_is_told_apart() -> Result<()> {
    take_machine!();
    let mut child = Command::new("sleep").arg("60").spawn()?;
    let output = run(&[
        "attach",
        "--pid",
        &child.id().to_string(),
        "--duration",
        "1s",
    ]);
    child.kill()?;
    child.wait()?;
    expect(&output?, 1, &["does not use Tokio", "loopprobe ps"])
}

#[test]
fn an_ordinary_user_learns_which_privilege_is_missing() -> Result<()> {
    take_machine!();
    // The folder of the build may not be open to others.
    let copy = std::env::temp_dir().join(format!("loopprobe-cli-{}", std::process::id()));
    fs::copy(privileged_loopprobe()?, &copy)?;
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
    let target = gated(Build::DEFAULT, "truth", &["sleep"])?;
    let output = Command::new(&copy)
        .args([
            "attach",
            "--pid",
            &target.pid().to_string(),
            "--duration",
            "1s",
        ])
        .current_dir("/")
        .uid(NOBODY)
        .gid(NOBODY)
        .output();
    let doctor = Command::new(&copy)
        .arg("doctor")
        .current_dir("/")
        .uid(NOBODY)
        .gid(NOBODY)
        .output();
    fs::remove_file(&copy)?;
    expect(&output?, 1, &["permission", "sudo"])?;
    let doctor = doctor?;
    expect(&doctor, 1, &[])?;
    let report = String::from_utf8_lossy(&doctor.stdout);
    for capability in ["CAP_BPF", "CAP_PERFMON", "CAP_SYS_PTRACE"] {
        ensure!(report.contains(&format!("FAIL  {capability}")), "{report}");
    }
    ensure!(
        report.contains("setcap cap_bpf,cap_perfmon,cap_sys_ptrace+ep"),
        "{report}"
    );
    Ok(())
}

#[test]
fn a_truncated_elf_is_an_error_that_names_the_file() -> Result<()> {
    let whole = fs::read(target(Build::DEFAULT, "truth")?)?;
    let path = folder("truncated")?.join("half");
    for length in [0, 3, 63, 64, 500, whole.len() / 2] {
        fs::write(&path, &whole[..length])?;
        let output = run(&["inspect", &path.display().to_string()])?;
        expect(&output, 1, &["half"]).with_context(|| format!("cut to {length} bytes"))?;
    }
    Ok(())
}

#[test]
fn a_full_disk_is_an_error_that_names_the_file() -> Result<()> {
    take_machine!();
    let target = gated(Build::DEFAULT, "truth", &["sleep"])?;
    let pid = target.pid().to_string();
    let output = run(&[
        "attach",
        "--pid",
        &pid,
        "--duration",
        "1s",
        "--output",
        "/dev/full",
    ])?;
    expect(&output, 1, &["/dev/full", "No space left"])?;
    let output = run(&[
        "attach",
        "--pid",
        &pid,
        "--duration",
        "1s",
        "--output",
        "/no/such/folder/x",
    ])?;
    expect(&output, 1, &["/no/such/folder/x", "No such file"])
}

#[test]
fn a_closed_pipe_ends_quietly() -> Result<()> {
    take_machine!();
    let mut target = gated(Build::DEFAULT, "truth", &["sleep"])?;
    let mut child = Command::new(loopprobe()?)
        .args([
            "attach",
            "--pid",
            &target.pid().to_string(),
            "--threshold",
            "0",
            "--duration",
            "20s",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut output = child.stdout.take().context("a pipe")?;
    let mut first = [0; 1];
    output.read_exact(&mut first)?;
    drop(output);
    target.work()?;
    let ended = child.wait_with_output()?;
    let errors = String::from_utf8_lossy(&ended.stderr);
    ensure!(
        ended.status.code() == Some(0) && errors.is_empty(),
        "{}: {errors}",
        ended.status
    );
    ensure!(target.is_alive()?, "the target has ended");
    Ok(())
}

#[test]
fn a_passed_limit_ends_with_3_and_a_kept_one_with_0() -> Result<()> {
    take_machine!();
    for (limit, code) in [("1ms", 3), ("1m", 0)] {
        let mut target = gated(Build::DEFAULT, "truth", &["sleep"])?;
        let mut child = Command::new(loopprobe()?)
            .args([
                "attach",
                "--pid",
                &target.pid().to_string(),
                "--duration",
                "4s",
                "--fail-over",
                limit,
            ])
            .stdout(Stdio::piped())
            .spawn()?;
        let mut output = child.stdout.take().context("a pipe")?;
        output.read_exact(&mut [0; 1])?;
        target.work()?;
        output.read_to_end(&mut Vec::new())?;
        let status = child.wait()?;
        ensure!(status.code() == Some(code), "{limit}: {status}");
    }
    Ok(())
}

#[test]
fn run_passes_on_the_childs_exit_code() -> Result<()> {
    take_machine!();
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 128 + 15)] {
        let output = run(&["run", "--quiet", "--", "sh", "-c", script])?;
        expect(&output, code, &[]).with_context(|| script.to_owned())?;
    }
    expect(
        &run(&["run", "--", "no-such-program-here"])?,
        1,
        &["no-such-program-here", "PATH"],
    )
}

#[test]
fn the_child_of_run_begins_with_default_signals_and_as_the_user_who_called_sudo() -> Result<()> {
    take_machine!();
    only_root!(Sudo);
    let output = Command::new(loopprobe()?)
        .args([
            "run",
            "--quiet",
            "--",
            "sh",
            "-c",
            "id -u; grep -E 'Sig(Blk|Ign)' /proc/self/status",
        ])
        .env("SUDO_UID", NOBODY.to_string())
        .env("SUDO_GID", NOBODY.to_string())
        .stdin(Stdio::null())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines().filter(|line| !line.is_empty());
    ensure!(lines.next() == Some("65534"), "{text}");
    // Other ignored signals may come from whoever started the test (nohup).
    let pipe = 1 << (libc::SIGPIPE - 1);
    for (field, forbidden) in [("SigBlk:", u64::MAX), ("SigIgn:", pipe)] {
        let line = lines.next().context("a line")?;
        let mask = line.strip_prefix(field).context(line.to_owned())?.trim();
        ensure!(u64::from_str_radix(mask, 16)? & forbidden == 0, "{line}");
    }
    Ok(())
}

#[test]
fn an_output_file_belongs_to_the_user_who_called_sudo() -> Result<()> {
    take_machine!();
    only_root!(Sudo);
    let path = folder("owner")?.join("report.txt");
    let status = Command::new(loopprobe()?)
        .args(["run", "--output", &path.display().to_string(), "--", "true"])
        .env("SUDO_UID", NOBODY.to_string())
        .env("SUDO_GID", NOBODY.to_string())
        .status()?;
    ensure!(status.success(), "{status}");
    let metadata = fs::metadata(&path)?;
    ensure!(
        (metadata.uid(), metadata.gid()) == (NOBODY, NOBODY),
        "{metadata:?}"
    );
    Ok(())
}

#[test]
fn links_in_a_folder_that_anybody_can_write_to_are_not_followed() -> Result<()> {
    take_machine!();
    let folder = folder("shared")?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o1777))?;
    let (victim, link) = (folder.join("victim"), folder.join("report.txt"));
    fs::write(&victim, "precious")?;
    symlink(&victim, &link)?;
    let output = run(&["run", "--output", &link.display().to_string(), "--", "true"])?;
    expect(&output, 1, &["report.txt", "symbolic link"])?;
    ensure!(
        fs::read_to_string(&victim)? == "precious",
        "the link was followed"
    );
    Ok(())
}

#[test]
fn completions_and_manual_pages_are_complete() -> Result<()> {
    for shell in ["bash", "zsh", "fish"] {
        let output = run(&["completions", shell])?;
        let script = String::from_utf8_lossy(&output.stdout);
        ensure!(
            script.contains("fail-over") && script.contains("doctor"),
            "{shell}"
        );
    }
    let page = run(&["man", "attach"])?.stdout;
    ensure!(
        String::from_utf8_lossy(&page).contains("fail\\-over"),
        "the page lacks an option"
    );
    Ok(())
}

#[test]
fn ps_lists_a_process_with_its_version_and_symbols() -> Result<()> {
    take_machine!();
    let target = gated(Build::DEFAULT, "truth", &["sleep"])?;
    let text = String::from_utf8(run(&["ps"])?.stdout)?;
    let pid = target.pid().to_string();
    let row = text
        .lines()
        .find(|line| line.split_whitespace().next() == Some(&pid))
        .with_context(|| format!("{pid} is not in:\n{text}"))?;
    let head: Vec<&str> = text
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let fields: Vec<&str> = row.split_whitespace().collect();
    let field = |name: &str| {
        let column = head.iter().position(|head| *head == name);
        column.and_then(|column| fields.get(column)).copied()
    };
    let user = Command::new("id").arg("-un").output()?.stdout;
    ensure!(
        field("USER") == Some(String::from_utf8(user)?.trim()),
        "{row}"
    );
    ensure!(field("AGE").is_some_and(|age| age.ends_with('s')), "{row}");
    ensure!(
        field("TOKIO").is_some_and(|version| version.starts_with("1.")),
        "{row}"
    );
    ensure!(field("SYMBOLS") == Some("symbols"), "{row}");
    ensure!(row.contains("/truth sleep"), "{row}");
    Ok(())
}

#[test]
fn doctor_finds_nothing_wrong_with_root_and_a_tokio_program() -> Result<()> {
    take_machine!();
    let target = gated(Build::DEFAULT, "truth", &["sleep"])?;
    let output = run(&["doctor", "--pid", &target.pid().to_string()])?;
    let report = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.code() == Some(0), "{report}");
    ensure!(
        report.contains("Tokio") && report.contains("task types"),
        "{report}"
    );
    Ok(())
}

#[test]
fn help_begins_with_what_most_need() -> Result<()> {
    let help = String::from_utf8(run(&["attach", "--help"])?.stdout)?;
    let words = [
        "Options:",
        "--pid",
        "--threshold",
        "--verbose",
        "Views:",
        "--flamegraph",
        "Measuring:",
        "--sample-hz",
        "Options of every command:",
        "--log-level",
    ];
    let mut rest = help.as_str();
    for word in words {
        let at = rest
            .find(word)
            .with_context(|| format!("{word} is not behind the one before it in:\n{help}"))?;
        rest = &rest[at..];
    }
    Ok(())
}

#[test]
fn a_program_without_tokio_is_said_to_be_one() -> Result<()> {
    take_machine!();
    let output = run(&["run", "--", "sh", "-c", "exit 0"])?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(
        text.contains("does not use Tokio 1.21 or later") && !text.contains("looked at:"),
        "{text}"
    );
    Ok(())
}

#[test]
fn a_debug_file_of_another_program_is_refused() -> Result<()> {
    take_machine!();
    let target = gated(Build::DEFAULT, "truth", &["sleep"])?;
    let pid = target.pid().to_string();
    let other = loopprobe()?.display().to_string();
    let words = [other.as_str(), "of no use"];
    for command in [
        &["attach", "--duration", "1s", "--pid", &pid][..],
        &["inspect", "--pid", &pid],
    ] {
        let args = [command, &["--debug-file", &other]].concat();
        expect(&run(&args)?, 1, &words)?;
    }
    let output = run(&["run", "--debug-file", &other, "--", "true"])?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(
        text.contains(&other) && text.contains("of no use"),
        "{text}"
    );
    Ok(())
}

#[test]
fn a_name_tells_several_apart_or_is_found_in_a_command_line() -> Result<()> {
    take_machine!();
    let first = gated(Build::DEFAULT, "truth", &["sleep"])?;
    let second = gated(Build::DEFAULT, "truth", &["cpu"])?;
    let pids = [first.pid().to_string(), second.pid().to_string()];
    let errors = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
    let several = errors(&run(&["attach", "--name", "truth", "--duration", "1s"])?);
    for word in [pids[0].as_str(), &pids[1], "COMMAND", "truth cpu", "--pid"] {
        ensure!(several.contains(word), "`{word}` is not in: {several}");
    }
    let found = run(&["attach", "--name", "truth cpu", "--duration", "1s"])?;
    let text = String::from_utf8_lossy(&found.stdout);
    ensure!(
        text.contains(&format!("pid {}", pids[1])),
        "{text}{}",
        errors(&found)
    );
    Ok(())
}

#[test]
fn root_without_the_capability_is_not_told_to_use_sudo() -> Result<()> {
    take_machine!();
    only_root!(Sudo);
    // A process of another user is closed to root without CAP_SYS_PTRACE, as it often is in a
    // container.
    let mut other = Command::new("sleep")
        .arg("60")
        .uid(NOBODY)
        .gid(NOBODY)
        .spawn()?;
    let output = Command::new("setpriv")
        .args(["--bounding-set", "-sys_ptrace", "--inh-caps", "-sys_ptrace"])
        .arg(loopprobe()?)
        .arg("ps")
        .output();
    other.kill()?;
    other.wait()?;
    let output = output?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{errors}");
    ensure!(
        errors.contains("could not be read") && errors.contains("--cap-add SYS_PTRACE"),
        "{errors}"
    );
    ensure!(!errors.contains("sudo"), "{errors}");
    Ok(())
}
