//! Prometheus itself: it scrapes them, and takes what the documentation asks of it.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use loopprobe_tests::{folder::Folder, session::Session, share_machine, target::Target};
use serde_json::Value;

use crate::{free_port, get, get_as};

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
