//! Says in which places its threads stand in Tokio, and where their thread-local variables begin:
//! `poll` blocks in two tasks, `closure` on the blocking pool, `root` in the future of `block_on`,
//! and `outside` is a thread that only knows the runtime. All of them stay there.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use targets::control::{self, Options};
use targets::runtime::multi_thread;

/// How many threads have said where they stay.
static STAY: AtomicU32 = AtomicU32::new(0);

fn main() {
    let _ = Options::parse(&["places"]);
    targets::work::bound_life(300);
    let runtime = multi_thread(3);
    let handle = runtime.handle().clone();
    std::thread::spawn(move || {
        let _in_runtime = handle.enter();
        drop(_in_runtime);
        stay("outside");
    });
    runtime.block_on(async {
        tokio::spawn(async { stay("poll") });
        tokio::spawn(async { stay("poll") });
        tokio::task::spawn_blocking(|| stay("closure"));
        while STAY.load(Relaxed) < 4 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        say("root");
        control::ready();
        targets::work::block_ms(300_000);
    });
}

fn stay(place: &str) {
    say(place);
    STAY.fetch_add(1, Relaxed);
    targets::work::block_ms(300_000);
}

fn say(place: &str) {
    let thread_pointer: u64;
    // SAFETY: the first word of a thread's own variables is their address (System V ABI,
    // thread-local storage).
    unsafe { std::arch::asm!("mov {}, fs:0", out(reg) thread_pointer) };
    control::say(&format!(
        r#"{{"type":"place","place":"{place}","thread_pointer":{thread_pointer}}}"#
    ));
}
