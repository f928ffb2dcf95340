//! One daemon for many processes that come and go.

use std::{
    collections::BTreeSet,
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use loopprobe::model::Event;
use loopprobe_tests::{
    daemon::{Daemon, PATIENCE, Samples},
    folder::Folder,
    matrix::{self, Build, target},
    take_machine,
    target::Target,
};
use serde_json::Value;

fn state(samples: &Samples, state: &str) -> f64 {
    let name = format!("loopprobe_targets{{state=\"{state}\"}}");
    samples.get(&name).copied().unwrap_or(-1.0)
}

/// Long polls of a process so far.
fn long(samples: &Samples, pid: u32) -> f64 {
    let pid = format!("pid=\"{pid}\"");
    let of = samples
        .iter()
        .filter(|(name, _)| name.starts_with("loopprobe_long_polls_total{") && name.contains(&pid));
    of.map(|(_, value)| value).sum()
}

#[test]
fn processes_are_picked_up_and_let_go_up_to_the_limit() -> Result<()> {
    take_machine!();
    let folder = Folder::new("serve")?;
    let first = Target::busy("block", 15_071)?;
    let second = Target::busy("block", 15_072)?;
    // In nobody else's command line, nor in that of a process that is not to be observed.
    let other = Target::busy("block", 15_171)?;
    let args = [
        "--command",
        "*busy block * --rounds 1507?",
        "--max-targets",
        "2",
    ];
    let daemon = Daemon::start(&folder, &args)?;
    daemon.until("both observed", |now| {
        long(now, first.pid()) > 10.0 && long(now, second.pid()) > 10.0
    })?;
    let third = Target::busy("block", 15_073)?;
    daemon.until("one too many", |now| state(now, "over_limit") == 1.0)?;
    ensure!(state(&daemon.samples(), "observed") == 2.0);
    let (gone, left) = (first.pid(), second.pid());
    drop(first);
    daemon.until("the third in the first's place", |now| {
        long(now, third.pid()) > 10.0 && state(now, "over_limit") == 0.0
    })?;
    let samples = daemon.samples();
    let label = format!("pid=\"{gone}\"");
    ensure!(
        samples.keys().all(|name| !name.contains(&label)),
        "{samples:#?}"
    );
    let label = format!("pid=\"{}\"", other.pid());
    ensure!(samples.keys().all(|name| !name.contains(&label)));
    ensure!(
        samples.contains_key(&format!(
            "loopprobe_polls_total{{name=\"busy\",pid=\"{left}\"}}"
        )) || samples.contains_key(&format!(
            "loopprobe_polls_total{{pid=\"{left}\",name=\"busy\"}}"
        )),
        "{samples:#?}"
    );

    let (lines, errors) = daemon.end()?;
    ensure!(errors.contains("--max-targets"), "{errors}");
    let expected = BTreeSet::from([gone, left, third.pid()].map(u64::from));
    for kind in ["session", "long_poll", "summary"] {
        let of = lines.iter().filter(|line| line["type"] == kind);
        let pids: BTreeSet<u64> = of
            .filter_map(|line| line["target"]["pid"].as_u64())
            .collect();
        ensure!(pids == expected, "{kind}: {pids:?}");
    }
    for line in &lines {
        ensure!(line["target"]["name"] == "busy", "{line}");
        let event: Event = serde_json::from_value(line.clone())?;
        if let Event::LongPoll(poll) = event {
            ensure!(line["target"]["pid"] == poll.pid, "{line}");
        }
    }
    let reason = |pid: u32| {
        let of = |line: &&Value| line["type"] == "summary" && line["target"]["pid"] == pid;
        lines.iter().find(of).map(|line| line["reason"].clone())
    };
    ensure!(reason(gone).context("a summary")? == "the process ended");
    ensure!(reason(left).context("a summary")? == "interrupted");
    Ok(())
}

#[test]
fn the_file_is_read_again_and_other_processes_are_chosen() -> Result<()> {
    take_machine!();
    let folder = Folder::new("serve-reload")?;
    let file = folder.path().join("serve.toml");
    let write = |rounds: &[u32], threshold: &str| {
        let patterns: Vec<_> = rounds
            .iter()
            .map(|rounds| format!("'*busy block * --rounds {rounds}'"))
            .collect();
        let patterns = patterns.join(", ");
        fs::write(
            &file,
            format!("command = [{patterns}]\nthreshold = '{threshold}'\n"),
        )
    };
    let first = Target::busy("block", 15_081)?;
    let second = Target::busy("block", 15_082)?;
    write(&[15_081], "10ms")?;
    let shown = file.display().to_string();
    let daemon = Daemon::start(&folder, &["--config", &shown])?;
    daemon.until("the first observed", |now| long(now, first.pid()) > 10.0)?;
    ensure!(state(&daemon.samples(), "observed") == 1.0);
    write(&[15_081, 15_082], "5ms")?;
    daemon.signal(libc::SIGHUP);
    daemon.until("both observed", |now| long(now, second.pid()) > 10.0)?;
    let threshold = format!(
        "loopprobe_threshold_seconds{{pid=\"{}\",name=\"busy\"}}",
        first.pid()
    );
    daemon.until("another threshold", |now| {
        now.get(&threshold) == Some(&0.005)
    })?;
    write(&[15_082], "5ms")?;
    daemon.signal(libc::SIGHUP);
    daemon.until("the first let go", |now| {
        state(now, "observed") == 1.0 && long(now, first.pid()) == 0.0
    })?;
    let together = "otlp = 'grpc://127.0.0.1:9'\notlp-header = ['x-bin=1']\n";
    let wrong = [
        ("comand = 'x'\n", "`command` is the nearest"),
        (together, "nothing is changed: --otlp-header"),
    ];
    for (text, told) in wrong {
        fs::write(&file, text)?;
        daemon.signal(libc::SIGHUP);
        let end = Instant::now() + PATIENCE;
        while !daemon.errors()?.contains(told) {
            ensure!(Instant::now() < end, "a wrong file is not told of: {text}");
            thread::sleep(Duration::from_millis(50));
        }
    }
    daemon.end()?;
    Ok(())
}

/// A control group of the test's own, removed when dropped.
struct Group(PathBuf);

impl Group {
    fn new(name: &str) -> Result<Self> {
        let unified = Path::new("/sys/fs/cgroup/unified");
        let root = match unified.is_dir() {
            true => unified,
            false => Path::new("/sys/fs/cgroup"),
        };
        let path = root.join(name);
        fs::create_dir(&path).with_context(|| path.display().to_string())?;
        Ok(Self(path))
    }

    fn add(&self, pid: u32) -> Result<()> {
        Ok(fs::write(self.0.join("cgroup.procs"), pid.to_string())?)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Its processes may take a moment to go.
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn units_and_containers_are_chosen_and_named() -> Result<()> {
    take_machine!();
    let folder = Folder::new("serve-groups")?;
    let own = std::process::id();
    let unit = format!("lp-{own}.service");
    let id = format!("{own:064x}");
    let (service, scope) = (
        Group::new(&unit)?,
        Group::new(&format!("docker-{id}.scope"))?,
    );
    let plain = Target::busy("block", 15_091)?;
    service.add(plain.pid())?;
    // As in a container: process ids and mounts of its own.
    let program = target(Build::DEFAULT, "busy")?;
    let command = format!(
        "'{}' block --millis 120000 --rounds 15092",
        program.display()
    );
    let inside = Target::in_namespaces("", &command)?;
    let contained = inside.child()?;
    scope.add(contained)?;
    let told = folder.path().join("alerts.jsonl");
    let hook = format!("cat >> {}", told.display());
    let args = [
        "--unit",
        &unit,
        "--container",
        &id[..12],
        "--on-alert",
        &hook,
    ];
    let daemon = Daemon::start(&folder, &args)?;
    daemon.until("both observed", |now| {
        long(now, plain.pid()) > 10.0 && long(now, contained) > 10.0
    })?;
    let samples = daemon.samples();
    let info = |pid: u32, label: &str| {
        let pid = format!("pid=\"{pid}\"");
        samples.keys().any(|name| {
            name.starts_with("loopprobe_target_info{")
                && name.contains(&pid)
                && name.contains(label)
        })
    };
    ensure!(
        info(plain.pid(), &format!("unit=\"{unit}\"")),
        "{samples:#?}"
    );
    let container = format!("container=\"{}\"", &id[..12]);
    ensure!(info(contained, &container), "{samples:#?}");
    let (lines, _) = daemon.end()?;
    let label = |pid: u32, label: &str| {
        let of = lines.iter().find(|line| line["target"]["pid"] == pid);
        of.map(|line| line["target"][label].clone())
    };
    ensure!(label(plain.pid(), "unit").context("a line")? == unit.as_str());
    ensure!(label(contained, "container").context("a line")? == id[..12]);
    let alerts = fs::read_to_string(&told)?;
    let alert = |pid: u32| {
        let mut alerts = alerts.lines().filter_map(|line| {
            let alert: Value = serde_json::from_str(line).ok()?;
            (alert["pid"] == pid).then_some(alert)
        });
        alerts.next()
    };
    let of_unit = alert(plain.pid()).context("an alert")?;
    ensure!(of_unit["placement"]["unit"] == unit.as_str(), "{of_unit}");
    let of_container = alert(contained).context("an alert")?;
    ensure!(
        of_container["placement"]["container"] == id[..12],
        "{of_container}"
    );
    Ok(())
}

#[test]
fn nothing_chosen_is_an_error_and_a_taken_address_too() -> Result<()> {
    let serve = |args: &[&str]| -> Result<(Option<i32>, String)> {
        let output = Command::new(matrix::loopprobe()?)
            .arg("serve")
            .args(args)
            .stdin(Stdio::null())
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Ok((output.status.code(), said))
    };
    let (code, said) = serve(&[])?;
    ensure!(
        code == Some(2) && said.contains("--unit"),
        "{code:?}: {said}"
    );
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let (code, said) = serve(&["--all", "--metrics", &address])?;
    ensure!(
        code == Some(1) && said.contains(&format!("cannot listen at {address}")),
        "{said}"
    );
    Ok(())
}

/// Ten processes of 1,000 polls a second, measured `LOOPPROBE_SETTLE` seconds after all are
/// observed, 2 unless told. What it needs on an idle machine is in docs/serve.md; here is what it
/// never may.
#[test]
fn ten_processes_cost_little() -> Result<()> {
    take_machine!();
    let folder = Folder::new("serve-ten")?;
    let targets: Vec<Target> = (0..10)
        .map(|_| Target::busy("pace", 1_000))
        .collect::<Result<_>>()?;
    let args = ["--command", "*busy pace * --rounds 1000"];
    let daemon = Daemon::as_shipped(&folder, &args)?;
    daemon.until("all observed", |now| {
        let polled = targets.iter().filter(|target| {
            let name = format!(
                "loopprobe_polls_total{{pid=\"{}\",name=\"busy\"}}",
                target.pid()
            );
            now.get(&name).is_some_and(|polls| *polls > 100.0)
        });
        polled.count() == targets.len()
    })?;
    let settle = std::env::var("LOOPPROBE_SETTLE").map_or(Ok(2), |seconds| seconds.parse())?;
    thread::sleep(Duration::from_secs(settle));
    let (before, began) = (daemon.cpu_seconds()?, Instant::now());
    thread::sleep(Duration::from_secs(8));
    let share = (daemon.cpu_seconds()? - before) / began.elapsed().as_secs_f64();
    let (resident, own) = (daemon.kib("VmRSS:")?, daemon.kib("RssAnon:")?);
    let maps = daemon.map_bytes()?;
    println!(
        "{:.2} % of a CPU, {} MiB resident, of which {} MiB are its own, {} MiB of the kernel's",
        share * 100.0,
        resident >> 10,
        own >> 10,
        maps >> 20
    );
    ensure!(share < 0.05, "{share}");
    ensure!(resident < 160 << 10, "{resident} KiB");
    daemon.end()?;
    Ok(())
}
