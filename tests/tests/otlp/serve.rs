//! What `serve` sends.

use std::{
    collections::BTreeMap,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use loopprobe_tests::{
    matrix,
    otlp::{Received, Transport, number},
    take_machine,
    target::Target,
};

over_both! {
    serve_sends_for_each_process,
}

fn serve_sends_for_each_process(transport: Transport) -> Result<()> {
    take_machine!();
    let receiver = transport.willing()?;
    let url = receiver.url();
    let targets = [
        Target::busy("block", 20_000)?,
        Target::busy("block", 30_000)?,
    ];
    let mut child = Command::new(matrix::loopprobe()?)
        .args([
            "serve",
            "--name",
            "busy",
            "--quiet",
            "--output",
            "/dev/null",
        ])
        .args([
            "--otlp",
            &url,
            "--otlp-only",
            "traces",
            "--look-every",
            "300ms",
        ])
        .spawn()?;
    let end = Instant::now() + Duration::from_mins(1);
    let mut seen = BTreeMap::new();
    while seen.len() < targets.len() && Instant::now() < end {
        let Ok(sent) = receiver.next(Duration::from_secs(10)) else {
            continue;
        };
        ensure!(sent.url == "/v1/traces", "{}", sent.url);
        let received = Received::of(&[sent], transport)?;
        let pid = number(&received.resources[0].attributes, "process.pid");
        seen.insert(pid, received.spans.len());
    }
    // SAFETY: the pid is our own child's, which has not been waited for.
    unsafe { libc::kill(child.id().cast_signed(), libc::SIGTERM) };
    let status = loopprobe_tests::target::wait(&mut child, Duration::from_mins(1))?;
    ensure!(status.success());
    for target in &targets {
        ensure!(seen.contains_key(&Some(target.pid().into())), "{seen:?}");
    }
    Ok(())
}
