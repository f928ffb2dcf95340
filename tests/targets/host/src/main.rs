//! A program without Tokio that loads a shared object with Tokio inside when told to.
//!
//! `late_tokio LIBRARY ROUNDS`: prints `ready`, waits for the line `go`, loads the library and runs it; `load` loads it
//! without running it yet and prints `loaded`.

use std::io::BufRead;

mod plugin;

fn main() {
    let mut args = std::env::args().skip(1);
    let library = args.next().expect("usage: late_tokio LIBRARY ROUNDS");
    let rounds = args.next().and_then(|n| n.parse().ok()).unwrap_or(20);
    // SAFETY: the default action of SIGALRM ends the process.
    unsafe { libc::alarm(300) };
    println!(r#"{{"type":"ready","pid":{}}}"#, std::process::id());
    let mut run = None;
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        match line.trim() {
            "load" => {
                run = Some(plugin::run(plugin::open(&library)));
                println!(r#"{{"type":"loaded"}}"#);
            }
            "go" => {
                let run = *run.get_or_insert_with(|| plugin::run(plugin::open(&library)));
                // SAFETY: `plugin_run` takes any number.
                unsafe { run(rounds) };
            }
            "quit" => break,
            _ => {}
        }
    }
}
