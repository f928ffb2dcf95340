//! A configuration file, and the manners of a service: what it tells systemd, priorities in the
//! journal, reloads.

use std::{
    fs::{self, File},
    os::{fd::AsFd as _, unix::net::UnixDatagram},
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use loopprobe_tests::{
    folder::Folder,
    matrix::loopprobe,
    take_machine,
    target::{Target, wait},
    unprivileged,
};

const PATIENCE: Duration = Duration::from_mins(1);

fn run(args: &[&str]) -> Result<Output> {
    Ok(Command::new(loopprobe()?)
        .args(args)
        .stdin(Stdio::null())
        .output()?)
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Kills loopprobe by its pid when a test fails.
struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Service {
    fn signal(&self, signal: i32) {
        // SAFETY: the pid is our own child's, which has not been waited for.
        unsafe { libc::kill(self.0.id() as i32, signal) };
    }
}

fn until(what: &str, mut is: impl FnMut() -> Result<bool>) -> Result<()> {
    let since = Instant::now();
    while !is()? {
        ensure!(since.elapsed() < PATIENCE, "{what} does not come");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

#[test]
fn options_come_from_a_file_and_a_wrong_one_is_refused() -> Result<()> {
    take_machine!();
    let folder = Folder::new("config")?;
    let file = folder.path().join("api.toml");
    fs::write(&file, "threshold = '1s'\nfail-over-wall = '5ms'\n")?;
    let config = file.display().to_string();
    let target = Target::busy("block", 20_000)?;
    let pid = target.pid().to_string();
    let attach = [
        "attach",
        "--pid",
        &pid,
        "--duration",
        "1s",
        "--config",
        &config,
    ];
    let output = run(&attach)?;
    ensure!(output.status.code() == Some(3), "{}", errors(&output));
    let output = run(&[&attach[..], &["--fail-over-wall", "1m"]].concat())?;
    ensure!(
        output.status.code() == Some(0),
        "what is typed wins: {}",
        errors(&output)
    );

    let printed = run(&[&attach[..], &["--print-config", "--warn", "7ms"]].concat())?;
    let text = String::from_utf8(printed.stdout)?;
    ensure!(
        text.contains("threshold = \"1s\"") && text.contains("warn = \"7ms\""),
        "{text}"
    );
    ensure!(
        text.contains("# critical =") && text.contains("sample-hz = 499"),
        "{text}"
    );
    fs::write(&file, &text)?;
    let again = run(&[&attach[..], &["--print-config"]].concat())?;
    ensure!(String::from_utf8(again.stdout)? == text, "{text}");

    fs::write(&file, "\nfail-ower = '1s'\n")?;
    let output = run(&attach)?;
    let said = errors(&output);
    ensure!(output.status.code() == Some(2), "{said}");
    ensure!(
        said.contains("api.toml:2: there is no key `fail-ower`; `fail-over` is the nearest"),
        "{said}"
    );
    Ok(())
}

/// What came to the socket so far.
fn told(socket: &UnixDatagram) -> Vec<String> {
    let mut buffer = [0; 4096];
    let mut told = Vec::new();
    while let Ok(length) = socket.recv(&mut buffer) {
        told.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
    }
    told
}

#[test]
fn the_service_manager_is_told_and_the_file_is_read_again() -> Result<()> {
    take_machine!();
    let folder = Folder::new("service")?;
    let (file, path) = (folder.path().join("api.toml"), folder.path().join("socket"));
    let alerts = folder.path().join("alerts");
    let socket = UnixDatagram::bind(&path)?;
    socket.set_nonblocking(true)?;
    unprivileged::give(&path)?;
    let rules = |ignore: &str, more: &str| {
        let command = format!("echo $LOOPPROBE_TASK >> {}", alerts.display());
        fs::write(
            &file,
            format!("on-alert = '{command}'\nalert-rate = 6000\nignore = ['{ignore}']\n{more}"),
        )
    };
    rules("*", "")?;
    let target = Target::busy("block", 20_000)?;
    let log = folder.path().join("log");
    let child = Command::new(loopprobe()?)
        .args([
            "attach",
            "--pid",
            &target.pid().to_string(),
            "--output",
            "/dev/null",
            "--config",
        ])
        .arg(&file)
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "1500000")
        .env_remove("WATCHDOG_PID")
        .stdin(Stdio::null())
        .stderr(File::create(&log)?)
        .spawn()?;
    let mut service = Service(child);
    let mut heard = Vec::new();
    let mut hear = |what: &str| {
        until(what, || {
            heard.extend(told(&socket));
            Ok(heard.iter().any(|said| said.contains(what)))
        })
    };
    hear("READY=1")?;
    hear("WATCHDOG=1")?;
    ensure!(lines(&alerts) == 0, "every task is ignored");

    rules("nothing", "threshold = '5ms'\nmetrics = '127.0.0.1:0'\n")?;
    service.signal(libc::SIGHUP);
    hear("RELOADING=1")?;
    until("an alert", || Ok(lines(&alerts) > 0))?;
    let said = fs::read_to_string(&log)?;
    ensure!(
        said.contains("threshold = \"5ms\"") && said.contains("ignore = [\"nothing\"]"),
        "{said}"
    );
    ensure!(said.contains("`metrics` cannot be changed"), "{said}");

    fs::write(&file, "ignore = 7.5.\n")?;
    service.signal(libc::SIGHUP);
    until("a warning", || {
        Ok(fs::read_to_string(&log)?.contains("nothing is changed"))
    })?;
    service.signal(libc::SIGTERM);
    hear("STOPPING=1")?;
    let status = wait(&mut service.0, PATIENCE)?;
    ensure!(status.success(), "{status}: {}", fs::read_to_string(&log)?);
    Ok(())
}

fn lines(path: &Path) -> usize {
    fs::read_to_string(path).unwrap_or_default().lines().count()
}

#[test]
fn lines_for_the_journal_have_their_priority() -> Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    take_machine!();
    let folder = Folder::new("journal")?;
    let path = folder.path().join("log");
    let log = File::create(&path)?;
    let stream = format!("{}:{}", log.metadata()?.dev(), log.metadata()?.ino());
    let target = Target::busy("block", 20_000)?;
    let pid = target.pid().to_string();
    let write = |args: &[&str]| -> Result<String> {
        let both = [
            log.as_fd().try_clone_to_owned()?,
            log.as_fd().try_clone_to_owned()?,
        ];
        let [stdout, stderr] = both;
        log.set_len(0)?;
        Command::new(loopprobe()?)
            .args(args)
            .env("JOURNAL_STREAM", &stream)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .status()?;
        Ok(fs::read_to_string(&path)?.replace('\0', ""))
    };
    let text = write(&[
        "attach",
        "--pid",
        &pid,
        "--duration",
        "1s",
        "--fail-over",
        "1ms",
    ])?;
    for line in text.lines() {
        let after = line.strip_prefix('<').and_then(|rest| rest.get(1..2));
        ensure!(after == Some(">"), "without a priority: {line}\n{text}");
    }
    ensure!(text.contains("<6>loopprobe "), "{text}");
    let long = text
        .lines()
        .find(|line| line.contains("LONG POLL"))
        .context("a long poll")?;
    ensure!(long.starts_with("<4>"), "{long}");
    ensure!(text.contains("<3>failed: --fail-over 1ms"), "{text}");
    let json = write(&[
        "attach",
        "--pid",
        &pid,
        "--duration",
        "1s",
        "--format",
        "json",
    ])?;
    ensure!(json.lines().all(|line| line.starts_with('{')), "{json}");
    let elsewhere = run(&["attach", "--pid", &pid, "--duration", "1s"])?;
    ensure!(
        !String::from_utf8_lossy(&elsewhere.stdout).contains("<4>"),
        "no journal"
    );
    Ok(())
}

#[test]
fn the_unit_files_have_no_capability_that_a_session_does_not_keep() -> Result<()> {
    for name in ["loopprobe@.service", "loopprobe.service"] {
        has_kept_capabilities_only(name)?;
    }
    Ok(())
}

fn has_kept_capabilities_only(name: &str) -> Result<()> {
    let contrib = loopprobe_tests::matrix::root().join("contrib");
    let unit = fs::read_to_string(contrib.join(name))?;
    let kept = fs::read_to_string(
        loopprobe_tests::matrix::root().join("loopprobe/src/commands/privileges.rs"),
    )?;
    let sets: Vec<&str> = unit
        .lines()
        .filter_map(|line| {
            line.split_once("Capabilities=")
                .or(line.split_once("BoundingSet="))
        })
        .map(|(_, set)| set)
        .collect();
    ensure!(sets.len() == 2 && sets[0] == sets[1], "{sets:?}");
    for capability in sets[0].split(' ') {
        ensure!(
            kept.contains(&format!("Capability::{capability},")),
            "{capability}"
        );
    }
    Ok(())
}
