//! Puts load on the service by wrk: requests a second, and the 99th percentile in microseconds.

use std::process::Command;

use anyhow::{Context as _, ensure};

/// What the clients of the service saw.
pub(super) struct Answers {
    pub requests_a_second: f64,
    pub p99_us: f64,
}

/// Brings the service's memory and code into the caches.
pub(super) fn warm_up(address: &str) -> anyhow::Result<()> {
    wrk(address, "1s").map(drop)
}

/// Loads the service from another process.
pub(super) fn run(address: &str) -> anyhow::Result<Answers> {
    parse(&wrk(address, "3s")?)
}

fn wrk(address: &str, duration: &str) -> anyhow::Result<String> {
    let output = Command::new("wrk")
        .args(["--latency", "--threads", "1", "--connections", "32"])
        .args(["--duration", duration, &format!("http://{address}/")])
        .output()
        .context("cannot run wrk")?;
    ensure!(output.status.success(), "wrk ended with {}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// wrk 4: `Requests/sec:  12345.67`, and under `Latency Distribution` a line `99%  1.23ms`.
fn parse(text: &str) -> anyhow::Result<Answers> {
    ensure!(
        !text.contains("Non-2xx") && !text.contains("Socket errors"),
        "the service failed: {text}"
    );
    let after = |label: &str| {
        let line = text
            .lines()
            .find_map(|line| line.trim().strip_prefix(label));
        line.map(str::trim)
            .with_context(|| format!("wrk says no `{label}`: {text}"))
    };
    Ok(Answers {
        requests_a_second: after("Requests/sec:")?.parse()?,
        p99_us: microseconds(after("99%")?)?,
    })
}

fn microseconds(text: &str) -> anyhow::Result<f64> {
    let digits = text.trim_end_matches(char::is_alphabetic);
    let scale = match &text[digits.len()..] {
        "us" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        unit => anyhow::bail!("unknown unit `{unit}`"),
    };
    Ok(digits.parse::<f64>()? * scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_wrk_prints() {
        let text = "  Latency Distribution\n     50%  500.00us\n     99%    1.50ms\n\
                    Requests/sec:  12345.67\nTransfer/sec:      1.00MB\n";
        let answers = parse(text).unwrap();
        assert_eq!(
            (answers.requests_a_second, answers.p99_us),
            (12345.67, 1500.0)
        );
    }

    #[test]
    fn failed_requests_count_as_none() {
        assert!(parse("Non-2xx or 3xx responses: 3\nRequests/sec: 1\n99% 1us\n").is_err());
    }
}
