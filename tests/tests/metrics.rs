//! Metrics: what Prometheus scrapes is what the target and the session say.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use loopprobe::model::LongPoll;
use loopprobe_tests::{
    counted::{at, counts, monotonic_ns},
    folder::Folder,
    matrix::{Build, Tokio, target},
    session::Session,
    share_machine,
    target::Target,
};
use serde_json::Value;

/// A port that nobody listens at just now.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Head and body of the answer to a Prometheus of today.
fn get(port: u16, path: &str) -> Result<(String, String)> {
    get_as(
        port,
        path,
        "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5",
    )
}

fn get_as(port: u16, path: &str, accept: &str) -> Result<(String, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"
    )?;
    let mut reader = BufReader::new(stream);
    let (mut head, mut body) = (String::new(), String::new());
    while reader.read_line(&mut head)? > 2 {}
    reader.read_to_string(&mut body)?;
    Ok((head, body))
}

/// Each sample by its name with labels.
fn samples(text: &str) -> Result<BTreeMap<String, f64>> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').context(line.to_owned())?;
            Ok((name.to_owned(), value.parse()?))
        })
        .collect()
}

fn scraped(port: u16) -> Result<BTreeMap<String, f64>> {
    let (head, body) = get(port, "/metrics")?;
    ensure!(head.starts_with("HTTP/1.1 200"), "{head}");
    ensure!(body.ends_with("# EOF\n"), "{body}");
    samples(&body)
}

fn sum(samples: &BTreeMap<String, f64>, prefix: &str) -> f64 {
    let of = samples.iter().filter(|(name, _)| name.starts_with(prefix));
    of.map(|(_, value)| value).sum()
}

#[test]
fn polls_are_as_many_as_the_target_counts() -> Result<()> {
    share_machine!();
    let target = Target::busy("busy", 50_000)?;
    let port = free_port()?;
    let address = format!("127.0.0.1:{port}");
    let session = Session::attach(target.pid(), &["--metrics", &address])?;
    // Figures change once a second; when they do tells of when they are.
    let mut changes: Vec<(u64, f64)> = Vec::new();
    let end = Instant::now() + Duration::from_secs(16);
    while Instant::now() < end {
        let polls = scraped(port)?["loopprobe_polls_total"];
        if changes.last().is_none_or(|(_, before)| *before != polls) {
            changes.push((monotonic_ns(), polls));
        }
        thread::sleep(Duration::from_millis(5));
    }
    session.interrupt()?;
    ensure!(
        get(port, "/metrics").is_err(),
        "nobody answers after the end"
    );
    // The first is not a change, and the second may be older than the target's first line.
    let (first, last) = (
        *changes.get(2).context("changes")?,
        changes[changes.len() - 1],
    );
    let counted = last.1 - first.1;
    let truth = counts(&target, last.0)?;
    let own = at(&truth, last.0)? - at(&truth, first.0)?;
    println!("{} changes, {counted} polls of {own:.0}", changes.len());
    ensure!(changes.len() >= 5, "{changes:?}");
    ensure!((counted / own - 1.0).abs() < 0.01, "{counted} of {own}");
    Ok(())
}

#[test]
fn long_polls_are_those_of_the_report() -> Result<()> {
    share_machine!();
    let target = Target::busy("block", 15_000)?;
    let port = free_port()?;
    let address = format!("127.0.0.1:{port}");
    let session = Session::attach(target.pid(), &["--metrics", &address])?;
    thread::sleep(Duration::from_secs(3));
    let (head, _) = get(port, "/metrics")?;
    ensure!(
        head.contains("application/openmetrics-text; version=1.0.0"),
        "{head}"
    );
    ensure!(get(port, "/")?.0.starts_with("HTTP/1.1 404"));
    let before = scraped(port)?;
    let report = session.interrupt()?;
    let ended = report.ended();
    let (long, blocked) = (
        sum(&before, "loopprobe_long_polls_total"),
        sum(&before, "loopprobe_blocked_seconds_total"),
    );
    println!(
        "{long} long polls, {blocked} s, of {} in the report",
        ended.len()
    );
    // The rest came after the scrape.
    let first: Vec<_> = ended.iter().take(long as usize).collect();
    let truth: u64 = first.iter().map(|poll| poll.duration_ns).sum();
    ensure!(long > 100.0 && first.len() == long as usize);
    ensure!(
        (blocked - truth as f64 / 1e9).abs() < 1e-6,
        "{blocked} of {truth}"
    );
    ensure!(
        before.keys().any(|name| name.contains(r#"cause="sleep""#)),
        "{before:?}"
    );
    ensure!(before["loopprobe_threshold_seconds"] == 0.01);
    ensure!(before["loopprobe_workers"] == 2.0);
    // Both workers block all the time; without I/O nobody turns a driver.
    let busy: Vec<f64> = before
        .iter()
        .filter(|(name, _)| name.starts_with("loopprobe_worker_busy_ratio{worker="))
        .map(|(_, share)| *share)
        .collect();
    ensure!(
        busy.len() == 2 && busy.iter().all(|share| (0.8..=1.0).contains(share)),
        "{busy:?}"
    );
    ensure!(!before.contains_key("loopprobe_driver_lag_seconds"));
    // A histogram is cumulative, and holds every poll.
    let bucket =
        |end: &str| before[&format!("loopprobe_poll_duration_seconds_bucket{{le=\"{end}\"}}")];
    ensure!(bucket("+Inf") == before["loopprobe_poll_duration_seconds_count"]);
    let (below, above) = (bucket("0.008388608"), bucket("0.016777216"));
    ensure!(below + 0.5 * long < above, "{below} and {above} of {long}");
    ensure!(
        before
            .iter()
            .any(|(name, _)| name.starts_with("loopprobe_overhead_seconds_total{part="))
    );
    ensure!(before.contains_key(r#"loopprobe_lost_total{kind="events"}"#));
    Ok(())
}

/// Each second has polls of 30 to 70 ms.
#[test]
fn the_driver_lag_is_as_long_as_the_polls() -> Result<()> {
    share_machine!();
    let program = target(Build::DEFAULT, "health")?;
    let target = Target::start(&program, &["lag", "--millis", "60000"])?;
    let port = free_port()?;
    let address = format!("127.0.0.1:{port}");
    let session = Session::attach(target.pid(), &["--metrics", &address])?;
    thread::sleep(Duration::from_millis(2_500));
    let lag = scraped(port)?["loopprobe_driver_lag_seconds"];
    session.interrupt()?;
    ensure!((0.03..0.2).contains(&lag), "{lag}");
    Ok(())
}

/// The threshold that `--threshold auto` comes to, once it is another one than at the beginning,
/// and the session's report.
fn fitted(target: &Target) -> Result<(f64, loopprobe_tests::session::Report)> {
    let port = free_port()?;
    let address = format!("127.0.0.1:{port}");
    let args = ["--threshold", "auto", "--metrics", &address];
    let session = Session::attach(target.pid(), &args)?;
    ensure!(session.head.threshold_ns == 10_000_000);
    let end = Instant::now() + Duration::from_secs(40);
    loop {
        thread::sleep(Duration::from_millis(200));
        if scraped(port)?["loopprobe_threshold_seconds"] != 0.01 {
            break;
        }
        ensure!(Instant::now() < end, "nothing was fitted");
    }
    thread::sleep(Duration::from_millis(1_500));
    let threshold = scraped(port)?["loopprobe_threshold_seconds"];
    Ok((threshold, session.interrupt()?))
}

/// Polls of 12 ms are what this program does all the time, so they are not long any more.
#[test]
fn a_threshold_is_fitted_to_long_polls_that_are_common() -> Result<()> {
    share_machine!();
    let (threshold, report) = fitted(&Target::busy("block", 12_000)?)?;
    let changes = report.notices.iter();
    let changes: Vec<_> = changes.filter(|n| n.threshold_ns.is_some()).collect();
    let last = changes.last().context("a notice")?;
    println!("{threshold}: {last:?}");
    ensure!(threshold > 0.012 && threshold <= 0.1, "{threshold}");
    let told = last.threshold_ns.context("a threshold")?;
    ensure!((told as f64 / 1e9 - threshold).abs() < 1e-9, "{last:?}");
    ensure!(last.message.contains("are reported"), "{last:?}");
    let ended = report.ended();
    let is_before = |poll: &&LongPoll| poll.start_ns + poll.duration_ns < changes[0].time_ns;
    let (before, after): (Vec<&LongPoll>, Vec<&LongPoll>) =
        ended.iter().copied().partition(is_before);
    // Those before are all of 6 s, some thousand on an idle machine.
    ensure!(before.len() > 200, "{}", before.len());
    let least = changes.iter().filter_map(|n| n.threshold_ns).min();
    // The probes' own time is taken off what the kernel side compares.
    let least = least.context("a threshold")? - 200_000;
    let short = after.iter().find(|poll| poll.duration_ns < least);
    ensure!(short.is_none(), "{short:?}");
    Ok(())
}

/// Polls of some microseconds: ten milliseconds are far above what is usual there.
#[test]
fn a_threshold_is_fitted_to_a_program_of_short_polls() -> Result<()> {
    share_machine!();
    let (threshold, report) = fitted(&Target::busy("pace", 4_000)?)?;
    println!("{threshold}: {:?}", report.notices);
    ensure!((0.001..0.01).contains(&threshold), "{threshold}");
    Ok(())
}

/// One task, two closures that never end and one that has.
#[test]
fn tasks_and_the_blocking_pool_are_those_of_the_target() -> Result<()> {
    share_machine!();
    let build = Build {
        tokio: Tokio::Exactly("1.50.0"),
        ..Build::DEFAULT
    };
    let target = Target::start(&target(build.stripped(), "crowd")?, &["pool"])?;
    let port = free_port()?;
    let address = format!("127.0.0.1:{port}");
    let session = Session::attach(target.pid(), &["--metrics", &address])?;
    thread::sleep(Duration::from_millis(3_500));
    let samples = scraped(port)?;
    session.interrupt()?;
    let expected = [
        ("loopprobe_active_tasks", 1.0),
        (r#"loopprobe_blocking_pool_threads{state="busy"}"#, 2.0),
        (r#"loopprobe_blocking_pool_threads{state="idle"}"#, 1.0),
    ];
    for (name, value) in expected {
        ensure!(samples.get(name) == Some(&value), "{name}: {samples:?}");
    }
    Ok(())
}

#[test]
fn an_address_that_is_taken_is_an_error_before_the_attach() -> Result<()> {
    share_machine!();
    let target = Target::busy("block", 15_000)?;
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let refused = Session::attach(target.pid(), &["--metrics", &address]);
    let error = format!("{:#}", refused.err().context("it was not refused")?);
    ensure!(
        error.contains(&format!("cannot listen at {address}")),
        "{error}"
    );
    Ok(())
}

/// A Prometheus of the test's own.
struct Prometheus {
    child: Child,
    port: u16,
}

impl Prometheus {
    fn start(folder: &Path, scraped: u16) -> Result<Self> {
        let port = free_port()?;
        let config = folder.join("prometheus.yml");
        fs::write(
            &config,
            format!(
                "global: {{scrape_interval: 500ms}}\nscrape_configs:\n  - job_name: loopprobe\n    static_configs:\n      - targets: \
                 ['127.0.0.1:{scraped}']\n"
            ),
        )?;
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.join("data").display()
            ))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("Debian's package prometheus is missing")?;
        Ok(Self { child, port })
    }

    /// The values of an expression, one a series.
    fn values(&self, expression: &str) -> Result<Vec<f64>> {
        let encoded: String = expression
            .bytes()
            .map(|byte| format!("%{byte:02x}"))
            .collect();
        let (_, body) = get(self.port, &format!("/api/v1/query?query={encoded}"))?;
        // The body may be chunked.
        let json = body
            .find('{')
            .zip(body.rfind('}'))
            .map(|(start, end)| &body[start..=end])
            .context(body.clone())?;
        let answer: Value = serde_json::from_str(json).context(json.to_owned())?;
        ensure!(answer["status"] == "success", "{expression}: {answer}");
        let series = answer["data"]["result"].as_array().context("series")?;
        series
            .iter()
            .map(|series| {
                let value = series["value"][1].as_str().context("a value")?;
                Ok(value.parse()?)
            })
            .collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The expressions in docs/metrics.md: in its table, and of its rules.
fn documented() -> Result<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let text = fs::read_to_string(path)?;
    let (_, section) = text.split_once("## Prometheus").context("the section")?;
    let rows = section.lines().filter_map(|line| {
        let cell = line.strip_prefix("| ")?.split(" | ").nth(1)?;
        let expression = cell.trim_end_matches(" |").trim().strip_prefix('`')?;
        Some(expression.trim_end_matches('`').to_owned())
    });
    let rules = section
        .lines()
        .filter_map(|line| Some(line.trim().strip_prefix("expr: ")?.to_owned()));
    Ok(rows.chain(rules).collect())
}

#[test]
fn prometheus_scrapes_it_and_takes_the_documented_expressions() -> Result<()> {
    share_machine!();
    let is_there = Command::new("prometheus").arg("--version").output().is_ok();
    if !is_there && std::env::var_os("CI").is_none() {
        eprintln!("skipped: Prometheus is not installed (apt-get install prometheus)");
        return Ok(());
    }
    let folder = Folder::new("prometheus")?;
    let target = Target::busy("block", 15_000)?;
    let port = free_port()?;
    let address = format!("127.0.0.1:{port}");
    let session = Session::attach(target.pid(), &["--metrics", &address])?;
    let (head, body) = get_as(port, "/metrics", "*/*")?;
    ensure!(head.contains("text/plain; version=0.0.4"), "{head}");
    check(&body)?;
    let prometheus = Prometheus::start(folder.path(), port)?;
    let end = Instant::now() + Duration::from_secs(40);
    let found = loop {
        thread::sleep(Duration::from_millis(500));
        let found = prometheus
            .values("loopprobe_polls_total > 300")
            .unwrap_or_default();
        if !found.is_empty() {
            break found;
        }
        ensure!(Instant::now() < end, "Prometheus has scraped nothing");
    };
    ensure!(found.len() == 1);
    ensure!(prometheus.values("loopprobe_target_info")? == [1.0]);
    // Two workers block all the time.
    let busy = "rate(loopprobe_poll_duration_seconds_sum[5s]) / loopprobe_workers";
    thread::sleep(Duration::from_secs(7));
    let busy = prometheus.values(busy)?;
    ensure!(busy.len() == 1 && (0.8..1.2).contains(&busy[0]), "{busy:?}");
    let blocked =
        prometheus.values(r#"sum(rate(loopprobe_blocked_seconds_total{cause="sleep"}[5s]))"#)?;
    ensure!(
        blocked.len() == 1 && (1.5..2.4).contains(&blocked[0]),
        "{blocked:?}"
    );
    let expressions = documented()?;
    ensure!(expressions.len() == 8, "{expressions:?}");
    for expression in expressions {
        let found = prometheus.values(&expression)?;
        println!("{expression}: {found:?}");
    }
    session.interrupt()?;
    Ok(())
}

/// `promtool` finds nothing wrong.
fn check(text: &str) -> Result<()> {
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("Debian's package prometheus is missing")?;
    child
        .stdin
        .take()
        .context("a pipe")?
        .write_all(text.as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}
