//! Alerts: commands that are run and URLs that are posted to for long polls.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    path::Path,
    process::Command,
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use loopprobe_tests::{
    folder::Folder,
    matrix,
    session::{Report, Session},
    share_machine,
    target::Target,
};
use serde_json::Value;

/// Two workers, each of which blocks for so many microseconds, again and again.
fn blocking(micros: u32) -> Result<Target> {
    Target::busy("block", micros)
}

/// A line for each time that a hook ran, as what it was given.
fn lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn observe(target: &Target, seconds: &str, args: &[&str]) -> Result<Report> {
    let args = [&["--duration", seconds], args].concat();
    Session::attach(target.pid(), &args)?.finish()
}

#[test]
fn a_command_is_given_the_event_and_its_main_fields() -> Result<()> {
    share_machine!();
    let folder = Folder::new("alerts")?;
    let ends = folder.path().join("ends");
    let target = Target::busy("storm", 30_000)?;
    // A file each: several run at once.
    let on_alert = format!(
        "{{ printf '%s|%s|%s|%s|%s|%s|%s|%s|' \"$LOOPPROBE_EVENT\" \"$LOOPPROBE_LEVEL\" \"$LOOPPROBE_PID\" \"$LOOPPROBE_TID\" \
         \"$LOOPPROBE_TASK\" \"$LOOPPROBE_CAUSE\" \"$LOOPPROBE_CALL\" \"$LOOPPROBE_DURATION_NS\"; cat; }} > {}/alert.$$",
        folder.path().display()
    );
    let on_end = format!("echo $LOOPPROBE_EVENT >> {}", ends.display());
    let args = [
        "--on-alert",
        &on_alert,
        "--on-alert-end",
        &on_end,
        "--critical",
        "20ms",
    ];
    let report = observe(&target, "1s", &args)?;
    let mut told = Vec::new();
    for file in fs::read_dir(folder.path())? {
        let path = file?.path();
        if path != ends {
            let text = fs::read_to_string(path)?;
            // Findings have no end: `--test health`.
            if !text.starts_with("finding|") {
                told.push(text);
            }
        }
    }
    ensure!(told.len() > 10, "{} alerts: {}", told.len(), report.errors);
    ensure!(told.len() == lines(&ends).len(), "each has its end");
    for line in &told {
        let fields: Vec<&str> = line.splitn(9, '|').collect();
        let json: Value = serde_json::from_str(fields[8]).context(fields[8].to_owned())?;
        ensure!(
            json["type"] == "alert" && json["event"] == fields[0],
            "{line}"
        );
        ensure!(
            json["level"] == "critical" && fields[1] == "critical",
            "{line}"
        );
        ensure!(fields[2] == target.pid().to_string(), "{line}");
        ensure!(json["tid"].as_u64() == fields[3].parse().ok(), "{line}");
        ensure!(json["task"]["name"] == fields[4], "{line}");
        ensure!(json["cause"] == fields[5], "{line}");
        // A poll that waited for a CPU most of all has no call.
        let call = json["call"]["function"].as_str().unwrap_or_default();
        ensure!(call == fields[6], "{line}");
        ensure!(
            json["duration_ns"].as_u64() == fields[7].parse().ok(),
            "{line}"
        );
        // What the hook was told is in the report too.
        let start = &json["start_ns"];
        ensure!(
            report.polls.iter().any(|poll| *start == poll.start_ns),
            "{line}"
        );
    }
    // An alert goes out while its poll is open, and on a busy machine before the poll's first
    // stack.
    let calls: Vec<&str> = told
        .iter()
        .filter_map(|line| line.split('|').nth(6))
        .collect();
    let named = calls
        .iter()
        .filter(|call| **call == "busy::compute_and_block")
        .count();
    let without = calls.iter().filter(|call| call.is_empty()).count();
    ensure!(named + without == told.len() && named > without, "{told:?}");
    Ok(())
}

#[test]
fn a_poll_alerts_while_it_is_open() -> Result<()> {
    share_machine!();
    let folder = Folder::new("alerts-open")?;
    let (events, ends) = (folder.path().join("events"), folder.path().join("ends"));
    let target = blocking(2_000_000)?;
    let on_alert = format!("cat >> {}", events.display());
    let on_end = format!("cat >> {}", ends.display());
    let args = [
        "--on-alert",
        &on_alert,
        "--on-alert-end",
        &on_end,
        "--critical",
        "300ms",
    ];
    observe(&target, "5s", &args)?;
    let json = |path| -> Result<Vec<Value>> {
        lines(path)
            .iter()
            .map(|line| Ok(serde_json::from_str(line)?))
            .collect()
    };
    let (events, ends) = (json(&events)?, json(&ends)?);
    let open: Vec<_> = events
        .iter()
        .filter(|event| event["ended"] == false && event["since_before_attach"] == false)
        .collect();
    ensure!(open.len() >= 2, "{events:?}");
    for event in open {
        let age = event["duration_ns"].as_u64().context("a duration")?;
        ensure!((300_000_000..1_000_000_000).contains(&age), "{event}");
    }
    ensure!(ends.iter().all(|event| event["ended"] == true), "{ends:?}");
    ensure!(ends.len() >= 2, "{ends:?}");
    Ok(())
}

#[test]
fn a_command_that_hangs_is_ended_and_counted() -> Result<()> {
    share_machine!();
    let target = blocking(30_000)?;
    let args = [
        "--on-alert",
        "sleep 60",
        "--alert-timeout",
        "500ms",
        "--alert-rate",
        "6",
    ];
    let began = Instant::now();
    let report = observe(&target, "2s", &args)?;
    ensure!(report.ended().len() > 50, "the session went on");
    ensure!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
    ensure!(report.errors.contains("6 failed"), "{}", report.errors);
    ensure!(
        report.errors.contains("left out: over --alert-rate"),
        "{}",
        report.errors
    );
    ensure!(
        report.errors.contains("`sleep 60`: killed"),
        "{}",
        report.errors
    );
    Ok(())
}

#[test]
fn under_sudo_a_command_is_the_invoking_users() -> Result<()> {
    share_machine!();
    let folder = Folder::new("alerts-user")?;
    let told = folder.path().join("who");
    fs::write(&told, "")?;
    let nobody = 65_534;
    std::os::unix::fs::chown(&told, Some(nobody), Some(nobody))?;
    std::os::unix::fs::chown(folder.path(), Some(nobody), Some(nobody))?;
    let target = blocking(30_000)?;
    let hook = format!("echo $(id -u) $(id -g) >> {}", told.display());
    let mut command = Command::new(matrix::loopprobe()?);
    command
        .args([
            "attach",
            "--pid",
            &target.pid().to_string(),
            "--format",
            "json",
        ])
        .args(["--duration", "1s", "--on-alert", &hook])
        .env("SUDO_UID", nobody.to_string())
        .env("SUDO_GID", nobody.to_string());
    let report = Session::spawn(&mut command)?.finish()?;
    let told = lines(&told);
    ensure!(!told.is_empty(), "{}", report.errors);
    ensure!(told.iter().all(|line| line == "65534 65534"), "{told:?}");
    Ok(())
}

/// A server that refuses the first request with 503 and takes the others. Gives path and body of
/// each that it takes.
fn server() -> Result<(String, Receiver<(String, Value)>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    let (taken, requests) = channel();
    thread::spawn(move || {
        for (number, stream) in listener.incoming().flatten().enumerate() {
            let mut reader = BufReader::new(stream);
            let mut head = Vec::new();
            while head.last().is_none_or(|line: &String| line != "\r\n") {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap_or(0) == 0 {
                    break;
                }
                head.push(line);
            }
            let length = head.iter().find_map(|line| {
                let line = line.to_ascii_lowercase();
                line.strip_prefix("content-length:")?.trim().parse().ok()
            });
            let mut body = vec![0; length.unwrap_or(0)];
            let _ = reader.read_exact(&mut body);
            let status = if number == 0 { "503 Later" } else { "200 OK" };
            let answer =
                format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            let _ = reader.get_mut().write_all(answer.as_bytes());
            let path = head.first().and_then(|line| line.split(' ').nth(1));
            if let (true, Some(path), Ok(body)) = (number > 0, path, serde_json::from_slice(&body))
            {
                let _ = taken.send((path.to_owned(), body));
            }
        }
    });
    Ok((address, requests))
}

#[test]
fn a_url_is_posted_to_again_if_it_refuses() -> Result<()> {
    share_machine!();
    let target = blocking(30_000)?;
    let (address, requests) = server()?;
    let url = format!("http://{address}/hook?x=1");
    let report = observe(&target, "2s", &["--alert-url", &url, "--alert-rate", "3"])?;
    let seen: Vec<_> = requests.try_iter().collect();
    ensure!(seen.iter().all(|(path, _)| path == "/hook?x=1"), "{seen:?}");
    let of = |event: &str| {
        seen.iter()
            .filter(|(_, body)| body["event"] == event)
            .count()
    };
    // A finding counts against the rate too, and has no end.
    let (alerts, ends, findings) = (of("alert"), of("alert_end"), of("finding"));
    ensure!(
        alerts > 0 && alerts == ends && alerts + findings == 3,
        "{alerts} alerts, {ends} ends, {findings} findings: {}",
        report.errors
    );
    Ok(())
}

#[test]
fn alertmanager_is_spoken_to_in_its_own_form() -> Result<()> {
    share_machine!();
    let target = blocking(30_000)?;
    let (address, requests) = server()?;
    let url = format!("http://{address}/api/v2/alerts");
    observe(&target, "2s", &["--alert-url", &url, "--alert-rate", "2"])?;
    let seen: Vec<_> = requests.try_iter().collect();
    let mut causes = Vec::new();
    for (_, body) in &seen {
        let alerts = body.as_array().context("an array of alerts")?;
        let [alert] = &alerts[..] else {
            anyhow::bail!("{body}");
        };
        // Two workers that block at once are a finding too: `--test health`.
        if alert["labels"]["alertname"] == "LoopprobeFinding" {
            continue;
        }
        ensure!(
            alert["labels"]["alertname"] == "LoopprobeLongPoll",
            "{alert}"
        );
        causes.push(alert["annotations"]["cause"].as_str().unwrap_or("none"));
        let all_strings = |value: &Value| {
            value
                .as_object()
                .is_some_and(|fields| fields.values().all(Value::is_string))
        };
        ensure!(
            all_strings(&alert["labels"]) && all_strings(&alert["annotations"]),
            "{alert}"
        );
        let (start, end) = (alert["startsAt"].as_str(), alert["endsAt"].as_str());
        ensure!(start.is_some() && start < end, "{alert}");
    }
    // Others may have wanted the CPU.
    ensure!(causes.contains(&"sleep"), "{causes:?}");
    Ok(())
}

/// A poll of two seconds is told of while it is open, as a warning; it ends as a critical one.
#[test]
fn an_alert_that_alertmanager_was_told_of_ends_there() -> Result<()> {
    share_machine!();
    let target = blocking(2_000_000)?;
    let (address, requests) = server()?;
    let url = format!("http://{address}/api/v2/alerts");
    observe(
        &target,
        "7s",
        &["--alert-url", &url, "--critical", "1500ms"],
    )?;
    let alerts: Vec<Value> = requests
        .try_iter()
        .filter_map(|(_, body)| body.as_array().cloned())
        .flatten()
        .filter(|alert| alert["labels"]["alertname"] == "LoopprobeLongPoll")
        .collect();
    // What was open at the attach may not end under the same beginning, and what is open at the end
    // does not end.
    let firing: Vec<_> = alerts
        .iter()
        .filter(|alert| alert.get("endsAt").is_none())
        .collect();
    let ends = |one: &Value| {
        alerts.iter().any(|other| {
            other.get("endsAt").is_some()
                && other["labels"] == one["labels"]
                && other["startsAt"] == one["startsAt"]
        })
    };
    let ended = firing.iter().filter(|alert| ends(alert)).count();
    ensure!(ended >= 2, "{ended} of {} ended: {alerts:#?}", firing.len());
    // Each of the two workers has one open at the end.
    ensure!(
        firing.len() <= ended + 2,
        "{ended} of {} ended: {alerts:#?}",
        firing.len()
    );
    ensure!(
        firing
            .iter()
            .all(|alert| alert["labels"]["severity"] == "warning"),
        "{firing:#?}"
    );
    Ok(())
}

#[test]
fn what_was_filtered_out_does_not_alert() -> Result<()> {
    share_machine!();
    let folder = Folder::new("alerts-filtered")?;
    let target = blocking(30_000)?;
    for (args, alerts) in [
        (&["--ignore", "*busy*"][..], false),
        (&["--cause", "cpu,network"], false),
        (&["--cause", "cpu,sleep"], true),
        (&["--warn", "100ms"], false),
        (&["--threshold-for", "*busy*=100ms"], false),
        (&["--warn", "1s", "--threshold-for", "*busy*=20ms"], true),
    ] {
        let told = folder.path().join(args.join("_").replace(['*', '/'], ""));
        let hook = format!("echo x >> {}", told.display());
        let report = observe(&target, "1s", &[&["--on-alert", &hook], args].concat())?;
        ensure!(
            report.ended().len() > 20,
            "they are reported all the same: {args:?}"
        );
        ensure!(
            lines(&told).is_empty() != alerts,
            "{args:?}: {}",
            report.errors
        );
    }
    Ok(())
}
