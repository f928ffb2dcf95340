//! A program without Tokio that loads a shared object with Tokio inside when told to.
//!
//! `late_tokio LIBRARY ROUNDS`: prints `ready`, waits for the line `go`, loads the library and runs
//! it; `load` loads it without running it yet and prints `loaded`. `current` and `multi` call the
//! library again and again from this thread, with work of its own in between, and print the truth.

use std::io::BufRead;
use std::time::{Duration, Instant};

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
            "current" | "multi" => alternate(&library, line.trim() == "multi", rounds),
            "quit" => break,
            _ => {}
        }
    }
}

/// As a script does with a library that has Tokio inside and a synchronous API.
fn alternate(library: &str, multi_thread: bool, rounds: u32) {
    let (call, dump) = plugin::call(plugin::open(library));
    for round in 0..rounds {
        own_work(round);
        // SAFETY: the function takes any numbers.
        unsafe { call(multi_thread, round) };
    }
    own_work(0);
    // SAFETY: the function takes nothing.
    unsafe { dump() };
}

/// 20 to 60 ms that have nothing to do with the library: waiting or computing.
#[inline(never)]
fn own_work(round: u32) {
    let ms = u64::from(20 + round * 20 % 60);
    if round % 2 == 0 {
        std::thread::sleep(Duration::from_millis(ms));
    } else {
        let end = Instant::now() + Duration::from_millis(ms);
        while Instant::now() < end {
            std::hint::spin_loop();
        }
    }
}
