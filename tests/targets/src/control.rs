//! How a test drives a target: arguments, and lines on standard input.
//!
//! The program prints `{"type":"ready","pid":N}` when it is up. With `--gate inside` it then waits
//! for the line `go`, its runtime already running; with `--gate before` it waits before it builds
//! any runtime. `dump` prints the truth so far. After its work the program prints the truth and
//! exits; with `--hold` it stays until `quit` or the end of the input.

use std::io::{BufRead, Write as _};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::{truth, work};

/// Where the program waits for `go`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    None,
    Before,
    Inside,
}

/// What was asked for.
#[derive(Clone)]
pub struct Options {
    /// What to do; the program's own words.
    pub scenario: String,
    pub gate: Gate,
    /// How often each task does its work.
    pub rounds: u32,
    /// A length of time for scenarios that take one.
    pub millis: u64,
    /// How often to say how it goes, in milliseconds.
    pub every: u64,
    pub hold: bool,
}

impl Options {
    /// Reads the arguments; ends the program with usage on standard error when they are wrong.
    pub fn parse(scenarios: &[&str]) -> Options {
        let mut options = Options {
            scenario: scenarios.first().copied().unwrap_or_default().to_owned(),
            gate: Gate::None,
            rounds: 20,
            millis: 1_000,
            every: 1_000,
            hold: false,
        };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            let known = match arg.as_str() {
                "--gate" => options.set_gate(args.next()),
                "--rounds" => set(&mut options.rounds, args.next()),
                "--millis" => set(&mut options.millis, args.next()),
                "--every" => set(&mut options.every, args.next()),
                "--hold" => set(&mut options.hold, Some("true".to_owned())),
                name if scenarios.contains(&name) => set(&mut options.scenario, Some(arg)),
                _ => None,
            };
            if known.is_none() {
                eprintln!(
                    "usage: [{}] [--gate before|inside] [--rounds N] [--millis N] [--every N] [--hold]",
                    scenarios.join("|")
                );
                std::process::exit(2);
            }
        }
        options
    }

    fn set_gate(&mut self, gate: Option<String>) -> Option<()> {
        self.gate = match gate?.as_str() {
            "before" => Gate::Before,
            "inside" => Gate::Inside,
            _ => return None,
        };
        Some(())
    }
}

fn set<T: FromStr>(place: &mut T, text: Option<String>) -> Option<()> {
    *place = text?.parse().ok()?;
    Some(())
}

static GO: AtomicBool = AtomicBool::new(false);
static OVER: AtomicBool = AtomicBool::new(false);

/// Listens on standard input from a thread of its own, and bounds the life of the program.
pub fn listen() {
    work::bound_life(300);
    std::thread::Builder::new()
        .name("control".to_owned())
        .spawn(|| {
            for line in std::io::stdin().lock().lines().map_while(Result::ok) {
                match line.trim() {
                    "go" => GO.store(true, Ordering::Release),
                    "dump" => truth::dump(),
                    "quit" => break,
                    _ => {}
                }
            }
            OVER.store(true, Ordering::Release);
            GO.store(true, Ordering::Release);
        })
        .expect("a thread can be started");
}

/// Says that the program is up.
pub fn ready() {
    say(&format!(
        r#"{{"type":"ready","pid":{}}}"#,
        std::process::id()
    ));
}

/// The same; then waits for `go` where that was asked for.
pub fn ready_to_go(options: &Options) {
    ready();
    if options.gate != Gate::None {
        wait_go();
    }
}

/// Prints one line at once.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}

/// Waits for `go` (or the end of the input) on a plain thread.
pub fn wait_go() {
    while !GO.load(Ordering::Acquire) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Waits for `go` inside a runtime.
pub async fn go() {
    while !GO.load(Ordering::Acquire) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Prints the truth; then stays for `quit` where that was asked for.
pub fn finish(options: &Options) {
    truth::dump();
    while options.hold && !over() {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether the input has ended or `quit` was read.
pub fn over() -> bool {
    OVER.load(Ordering::Acquire)
}
