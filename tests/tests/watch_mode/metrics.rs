//! Metrics of a session that watches.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use loopprobe_tests::{matrix::Build, scenario::gated, session::Session, take_machine};

use crate::WATCH;

/// What `/metrics` of a session says, once it tells of a long poll.
fn scraped(port: u16) -> Result<String> {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        if text.contains("\nloopprobe_long_polls_total{") {
            return Ok(text);
        }
        ensure!(Instant::now() < end, "no long poll: {text}");
        thread::sleep(Duration::from_millis(200));
    }
}

/// Figures of all polls are left out, and not 0.
#[test]
fn metrics_have_what_is_known() -> Result<()> {
    take_machine!();
    let mut target = gated(Build::DEFAULT, "truth", &["sleep"])?;
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let address = format!("127.0.0.1:{port}");
    let args = [&WATCH[..], &["--metrics", &address]].concat();
    let session = Session::attach(target.pid(), &args)?;
    target.send("go")?;
    let text = scraped(port)?;
    session.interrupt()?;
    for known in ["blocked_seconds_total{", "possible_long_polls_total "] {
        ensure!(text.contains(&format!("\nloopprobe_{known}")), "{text}");
    }
    for unknown in ["polls_total", "poll_duration", "workers", "worker_busy"] {
        ensure!(!text.contains(&format!("\nloopprobe_{unknown}")), "{text}");
    }
    Ok(())
}
