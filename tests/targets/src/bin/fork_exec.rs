//! Forks a child that runs Tokio too, or executes another program, while its tasks block.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use targets::control::{self, Gate, Options};
use targets::truth;
use targets::work::block_ms;
use tokio::runtime::Builder;

async fn blocker(rounds: u32, ms: u64) {
    for _ in 0..rounds {
        tokio::time::sleep(Duration::from_millis(3)).await;
        block_ms(ms);
    }
}

fn work(label: &'static str, rounds: u32, ms: u64) {
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .expect("a runtime");
    runtime.block_on(async move {
        truth::spawn(label, blocker(rounds, ms))
            .await
            .expect("no panic")
    });
}

/// The child's polls are not the parent's: it has no business in a session of the parent.
fn fork_child(rounds: u32) -> libc::pid_t {
    // SAFETY: at this point the process has this thread and `control`, which holds no lock the
    // child needs: it only reads.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "cannot fork");
    if pid == 0 {
        work("child", rounds, 15);
        // SAFETY: ends the child without the parent's exit handlers.
        unsafe { libc::_exit(0) };
    }
    pid
}

fn main() {
    let options = Options::parse(&["fork", "exec", "exit"]);
    control::listen();
    control::ready();
    if options.gate != Gate::None {
        control::wait_go();
    }
    match options.scenario.as_str() {
        "fork" => {
            let child = fork_child(options.rounds);
            control::say(&format!(r#"{{"type":"child_process","pid":{child}}}"#));
            work("parent", options.rounds, 12);
            let mut status = 0;
            // SAFETY: `child` is ours and `status` is a valid place.
            unsafe { libc::waitpid(child, &mut status, 0) };
            control::say(&format!(r#"{{"type":"child_status","status":{status}}}"#));
        }
        "exec" => {
            work("before_exec", options.rounds, 12);
            truth::dump();
            let program = std::env::current_exe()
                .expect("own path")
                .with_file_name("truth");
            let error = Command::new(program)
                .args(["sleep", "--rounds"])
                .arg(options.rounds.to_string())
                .exec();
            panic!("cannot execute: {error}");
        }
        _ => {
            work("exit", options.rounds, 12);
            truth::dump();
            std::process::exit(7);
        }
    }
    control::finish(&options);
}
