//! Shows loopprobe at work: a small web service with several kinds of blocking, load on it, and a
//! session.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context as _, ensure};

use crate::{privileged, workspace};

/// What the clients ask for: one page for each kind of blocking, and one that is well written.
const PAGES: [&str; 6] = ["/", "/login", "/report", "/orders", "/quote", "/upload"];
/// Requests take turns with this much rest, so that the demo leaves the machine usable.
const PAUSE: Duration = Duration::from_millis(150);

/// What was typed for `demo`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many seconds to watch
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// What the service's file keeps
    #[arg(long, value_enum, default_value_t = Keep::Stripped)]
    build: Keep,
}

/// What a release build keeps for those who look at it.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Keep {
    /// Nothing, as shipped programs do
    Stripped,
    /// Names of functions: what cargo does unless told otherwise
    Symbols,
    /// Names, and the file and line of each instruction
    Lines,
}

/// Builds both programs, starts the service and load on it, watches it, and ends it.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    eprintln!("1/3 building loopprobe: some minutes and 1 GB the first time");
    let loopprobe = workspace::build("Cargo.toml", "loopprobe")?.join("loopprobe");
    eprintln!("2/3 building a web service that blocks in six ways");
    let program = service(args.build)?;
    let seconds = args.seconds;
    eprintln!(
        "3/3 watching it under load for {seconds} s, as anybody would watch a service in production"
    );
    let mut service = Service::start(&program)?;
    let done = AtomicBool::new(false);
    let status = thread::scope(|scope| {
        for page in PAGES {
            let (address, done) = (service.address, &done);
            scope.spawn(move || ask(address, page, done));
        }
        let status = privileged::command(&loopprobe)
            .args(["attach", "--pid", &service.child.id().to_string()])
            .args(["--duration", &format!("{}s", args.seconds)])
            .args(["--flamegraph", "flamegraph.svg", "--html", "report.html"])
            .current_dir(workspace::root())
            .status();
        done.store(true, Ordering::Relaxed);
        status
    });
    let alive = service.child.try_wait()?.is_none();
    let status = status.context("cannot run loopprobe")?;
    ensure!(status.success(), "loopprobe ended with {status}");
    ensure!(alive, "the service has ended, which it should not");
    println!("\nin a browser: report.html (everything on one page), flamegraph.svg");
    let others = [
        (Keep::Stripped, "stripped", "without symbols"),
        (Keep::Symbols, "symbols", "with symbols"),
        (Keep::Lines, "lines", "with file and line"),
    ];
    for (_, build, what) in others.iter().filter(|(keep, ..)| *keep != args.build) {
        println!("the same {what}: cargo xtask demo --build {build}");
    }
    Ok(())
}

fn service(keep: Keep) -> anyhow::Result<PathBuf> {
    const NAME: &str = "loopprobe-demo";
    let profile: &[_] = match keep {
        Keep::Lines => &[("DEBUG", "line-tables-only")],
        Keep::Stripped | Keep::Symbols => &[],
    };
    let program = workspace::build_with("tests/demo/Cargo.toml", NAME, profile)?.join(NAME);
    match keep {
        Keep::Stripped => strip(&program),
        Keep::Symbols | Keep::Lines => Ok(program),
    }
}

fn strip(program: &PathBuf) -> anyhow::Result<PathBuf> {
    let folder = program.with_file_name("stripped");
    fs::create_dir_all(&folder)?;
    let stripped = folder.join(program.file_name().context("a program has a name")?);
    let status = Command::new("strip")
        .arg("-o")
        .args([&stripped, program])
        .status();
    ensure!(
        status.context("cannot run strip")?.success(),
        "strip failed"
    );
    Ok(stripped)
}

/// The service, ended by its process id when dropped.
struct Service {
    child: Child,
    address: SocketAddr,
    folder: PathBuf,
}

impl Service {
    fn start(program: &PathBuf) -> anyhow::Result<Self> {
        let folder = workspace::root().join("target/demo");
        fs::create_dir_all(&folder)?;
        let mut child = Command::new(program)
            .arg(&folder)
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().context("the output is a pipe")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let address = line
            .trim()
            .parse()
            .with_context(|| format!("the service says `{line}`"))?;
        Ok(Self {
            child,
            address,
            folder,
        })
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Asks for a page again and again. A request that fails is tried again: the session's report is
/// what counts.
fn ask(address: SocketAddr, page: &str, done: &AtomicBool) {
    while !done.load(Ordering::Relaxed) {
        let _ = get(address, page);
        thread::sleep(PAUSE);
    }
}

fn get(address: SocketAddr, page: &str) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(
        stream,
        "GET {page} HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    stream.take(1 << 20).read_to_end(&mut answer)?;
    Ok(())
}
