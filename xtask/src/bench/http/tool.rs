//! What may watch the service: nothing, loopprobe in four modes, bpftrace, perf, tokio-console.

use std::{
    fmt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::super::{
    build,
    running::{Running, is_installed},
};
use crate::{privileged, workspace};

/// What watches the service.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tool {
    Nothing,
    Watch,
    Light,
    Timing,
    Stacks,
    Bpftrace,
    Perf,
    Console,
}

impl Tool {
    pub(super) const ALL: [Self; 8] = [
        Self::Nothing,
        Self::Watch,
        Self::Light,
        Self::Timing,
        Self::Stacks,
        Self::Bpftrace,
        Self::Perf,
        Self::Console,
    ];

    /// Whether somebody else made it.
    pub(super) fn is_another(self) -> bool {
        matches!(self, Self::Bpftrace | Self::Perf | Self::Console)
    }

    pub(super) fn is_installed(self) -> bool {
        match self {
            Self::Bpftrace => is_installed("bpftrace"),
            Self::Perf => is_installed("perf"),
            _ => true,
        }
    }
}

impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "nothing",
            Self::Watch => "loopprobe --mode watch",
            Self::Light => "loopprobe --light --no-stacks",
            Self::Timing => "loopprobe --no-stacks",
            Self::Stacks => "loopprobe",
            Self::Bpftrace => "bpftrace",
            Self::Perf => "perf record -g",
            Self::Console => "console-subscriber",
        })
    }
}

/// What the tools are run with.
pub(super) struct Tools {
    loopprobe: PathBuf,
}

impl Tools {
    pub(super) fn build() -> anyhow::Result<Self> {
        let loopprobe = build::loopprobe()?;
        Ok(Self { loopprobe })
    }

    /// Starts a tool on the process `pid` of `program`, and waits until it works. Gives the name of
    /// its process too.
    pub(super) fn start(
        &self,
        tool: Tool,
        program: &Path,
        pid: u32,
    ) -> anyhow::Result<Option<(Running, &'static str)>> {
        match tool {
            Tool::Nothing | Tool::Console => Ok(None),
            Tool::Watch => self.loopprobe(pid, &["--mode", "watch"]).map(Some),
            Tool::Light => self.loopprobe(pid, &["--light", "--no-stacks"]).map(Some),
            Tool::Timing => self.loopprobe(pid, &["--no-stacks"]).map(Some),
            Tool::Stacks => self.loopprobe(pid, &[]).map(Some),
            Tool::Bpftrace => self.bpftrace(program, pid).map(Some),
            Tool::Perf => perf(pid).map(Some),
        }
    }

    fn loopprobe(&self, pid: u32, args: &[&str]) -> anyhow::Result<(Running, &'static str)> {
        let mut command = privileged::command(&self.loopprobe);
        command.args(["attach", "--format", "json", "--pid", &pid.to_string()]);
        let session = Running::start(command.args(args))?;
        session.next("session")?;
        Ok((session, "loopprobe"))
    }

    /// The same probes by hand: a histogram of the time from entry to return, by probe.
    fn bpftrace(&self, program: &Path, pid: u32) -> anyhow::Result<(Running, &'static str)> {
        let script = workspace::root().join("target/bench/polls.bt");
        std::fs::write(&script, self.script(program)?)?;
        let mut command = privileged::command("bpftrace");
        command
            .args(["-p", &pid.to_string()])
            .arg(script)
            .env("BPFTRACE_MAX_PROBES", "4096");
        let tracer = Running::start(&mut command)?;
        while !tracer.line()?.contains("watching") {}
        Ok((tracer, "bpftrace"))
    }

    fn script(&self, program: &Path) -> anyhow::Result<String> {
        let addresses = self.addresses(program)?;
        let path = program.display();
        let probes = |kind: &str| -> Vec<String> {
            let probe = |address| format!("{kind}:{path}:{address:#x}");
            addresses.iter().map(probe).collect()
        };
        Ok(format!(
            "BEGIN {{ printf(\"watching\\n\"); }}\n\
             {} {{ @start[tid] = nsecs; }}\n\
             {} /@start[tid]/ {{ @polls[probe] = hist(nsecs - @start[tid]); delete(@start[tid]); }}\n",
            probes("uprobe").join(",\n"),
            probes("uretprobe").join(",\n"),
        ))
    }

    /// Where async tasks are polled.
    fn addresses(&self, program: &Path) -> anyhow::Result<Vec<u64>> {
        let output = Command::new(&self.loopprobe)
            .args(["inspect", "--json"])
            .arg(program)
            .output()?;
        ensure!(output.status.success(), "loopprobe inspect failed");
        let report: Value = serde_json::from_slice(&output.stdout)?;
        let sites = report["files"][0]["sites"].as_array().context("sites")?;
        let asynchronous = sites.iter().filter(|site| site["kind"] == "async");
        asynchronous
            .map(|site| site["address"].as_u64().context("an address"))
            .collect()
    }
}

fn perf(pid: u32) -> anyhow::Result<(Running, &'static str)> {
    let output = workspace::root().join("target/bench/perf.data");
    let mut command = privileged::command("perf");
    command
        .args(["record", "-g", "--quiet", "--pid", &pid.to_string()])
        .arg("--output")
        .arg(output);
    Ok((Running::start(&mut command)?, "perf"))
}
