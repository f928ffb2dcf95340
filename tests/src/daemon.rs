//! `loopprobe serve` at work, and what it takes.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{folder::Folder, matrix, target::wait};

/// For what takes an attach or two on a machine that is busy with builds.
pub const PATIENCE: Duration = Duration::from_mins(2);

/// Every sample of the metrics by its name with labels.
pub type Samples = BTreeMap<String, f64>;

/// The daemon; killed by its pid when dropped.
pub struct Daemon {
    child: Child,
    port: u16,
    reports: PathBuf,
    errors: PathBuf,
}

impl Daemon {
    /// Looks for new processes far more often than it does by itself.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(folder: &Folder, args: &[&str]) -> Result<Self> {
        Self::as_shipped(folder, &[&["--look-every", "300ms"], args].concat())
    }

    /// With no other options than these.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn as_shipped(folder: &Folder, args: &[&str]) -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let (reports, errors) = (
            folder.path().join("reports.jsonl"),
            folder.path().join("errors"),
        );
        let child = Command::new(matrix::loopprobe()?)
            .args(["serve", "--format", "json"])
            .args(["--metrics", &format!("127.0.0.1:{port}")])
            .args(args)
            .stdin(Stdio::null())
            .stdout(File::create(&reports)?)
            .stderr(File::create(&errors)?)
            .spawn()?;
        Ok(Self {
            child,
            port,
            reports,
            errors,
        })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: i32) {
        // SAFETY: the pid is our own child's, which has not been waited for.
        unsafe { libc::kill(self.child.id().cast_signed(), signal) };
    }

    /// What it has said on standard error so far.
    ///
    /// # Errors
    /// When that cannot be read.
    pub fn errors(&self) -> Result<String> {
        Ok(fs::read_to_string(&self.errors)?)
    }

    /// Every sample; none while nobody answers.
    pub fn samples(&self) -> Samples {
        let text = self.scrape().unwrap_or_default();
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| {
                let (name, value) = line.rsplit_once(' ')?;
                Some((name.to_owned(), value.parse().ok()?))
            })
            .collect()
    }

    fn scrape(&self) -> Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(
            stream,
            "GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: application/openmetrics-text\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (_, body) = answer.split_once("\r\n\r\n").context("a body")?;
        Ok(body.to_owned())
    }

    /// Waits until the samples are as they should be.
    ///
    /// # Errors
    /// When they do not become so.
    pub fn until(&self, what: &str, is: impl Fn(&Samples) -> bool) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            let samples = self.samples();
            if is(&samples) {
                return Ok(());
            }
            ensure!(
                Instant::now() < end,
                "not {what}: {samples:#?}\n{}",
                self.errors()?
            );
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Ends it, as systemd does, and returns its lines and what it said.
    ///
    /// # Errors
    /// When it fails, or does not end.
    pub fn end(mut self) -> Result<(Vec<Value>, String)> {
        self.signal(libc::SIGTERM);
        let status = wait(&mut self.child, PATIENCE)?;
        let errors = self.errors()?;
        ensure!(status.success(), "{status}: {errors}");
        let lines = fs::read_to_string(&self.reports)?;
        let lines = lines.lines().map(serde_json::from_str);
        Ok((lines.collect::<Result<_, _>>()?, errors))
    }

    /// Its CPU time so far, in seconds.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
        let (_, rest) = stat.rsplit_once(") ").context("a name")?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
        // SAFETY: an integer in, an integer out.
        let a_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
        Ok(ticks as f64 / a_second as f64)
    }

    /// A field of its `/proc/PID/status`, in KiB.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn kib(&self, field: &str) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let mut lines = status.lines();
        let size = lines.find_map(|line| line.strip_prefix(field)?.strip_suffix(" kB"));
        Ok(size.context("a size")?.trim().parse()?)
    }

    /// How many descriptors it has open.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn descriptors(&self) -> Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.pid()))?.count())
    }

    /// How many threads it has.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn threads(&self) -> Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/task", self.pid()))?.count())
    }

    /// The kernel's memory for its maps, by what the descriptors' own files say, in bytes.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn map_bytes(&self) -> Result<u64> {
        let mut maps = BTreeMap::new();
        for entry in fs::read_dir(format!("/proc/{}/fdinfo", self.pid()))?.flatten() {
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            let field = |name: &str| {
                let line = text.lines().find_map(|line| line.strip_prefix(name))?;
                line.trim().parse::<u64>().ok()
            };
            if let (Some(id), Some(bytes)) = (field("map_id:"), field("memlock:")) {
                maps.insert(id, bytes);
            }
        }
        Ok(maps.values().sum())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
