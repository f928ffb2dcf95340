//! Has Tokio in it and polls no task: `shutdown` drops a runtime while a closure on its blocking
//! pool waits, `idle` has a runtime with nothing to do, `launcher` only starts itself again as
//! `polls`, which polls.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};
use std::time::Duration;

use targets::control::{self, Gate, Options};
use targets::runtime::multi_thread;
use targets::truth;

fn main() {
    let options = Options::parse(&["shutdown", "idle", "launcher", "polls"]);
    if options.gate == Gate::Before {
        control::ready();
    }
    match options.scenario.as_str() {
        "launcher" => launch(),
        "polls" => poll(),
        "idle" => idle(),
        _ => shut_down(),
    }
}

/// Says that it is ready when all threads have come to rest.
fn ready_soon() {
    targets::work::bound_life(300);
    std::thread::spawn(|| {
        targets::work::block_ms(300);
        control::ready();
    });
}

fn shut_down() {
    let (mut reader, _writer) = std::io::pipe().expect("a pipe");
    let runtime = multi_thread(2);
    runtime.block_on(async move {
        tokio::task::spawn_blocking(move || read_command(&mut reader));
        tokio::time::sleep(Duration::from_millis(50)).await;
    });
    ready_soon();
    drop(runtime);
}

/// Waits for ever: nobody writes.
#[inline(never)]
fn read_command(reader: &mut std::io::PipeReader) {
    let mut byte = [0];
    let _ = std::hint::black_box(reader.read(&mut byte));
}

fn idle() {
    let runtime = multi_thread(2);
    ready_soon();
    runtime.block_on(std::future::pending::<()>());
}

fn poll() {
    control::listen();
    let runtime = multi_thread(2);
    let _ = runtime.block_on(async {
        truth::spawn("polls", async {
            control::ready();
            loop {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await
    });
}

fn launch() {
    targets::work::bound_life(300);
    let mut child = Command::new(std::env::current_exe().expect("a path"))
        .arg("polls")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child");
    let mut line = String::new();
    let out = child.stdout.take().expect("a pipe");
    BufReader::new(out).read_line(&mut line).expect("a line");
    control::say(&format!(r#"{{"type":"child","pid":{}}}"#, child.id()));
    control::ready();
    // The end of the test is the end of this one's input, and so of the child's.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    drop(child.stdin.take());
    let _ = child.kill();
    let _ = child.wait();
}
