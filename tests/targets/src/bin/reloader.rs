//! Loads a shared object with Tokio inside, runs it, and unloads it, over and over; prints how
//! often it was gone again.
//!
//! The variable `PLUGIN` names the library.

#[path = "../../host/src/plugin.rs"]
#[allow(dead_code)] // It opens the library, and calls nothing in it by these names.
mod plugin;

use targets::control::{self, Options};
use targets::runtime::multi_thread;

fn is_loaded(path: &str) -> bool {
    std::fs::read_to_string("/proc/self/maps").is_ok_and(|maps| maps.contains(path))
}

/// On a thread of its own, whose thread-local values would otherwise keep the library in memory.
fn load_run_unload(path: &str) {
    let library = plugin::open(path);
    let run = plugin::run(library);
    // SAFETY: `plugin_run` takes any number. It runs on a thread that has ended before the library
    // is unloaded, and its runtime with it.
    unsafe {
        std::thread::spawn(move || run(1)).join().expect("no panic");
        assert_eq!(libc::dlclose(library), 0);
    }
}

fn main() {
    let options = Options::parse(&["reloader"]);
    let library = std::env::var("PLUGIN").expect("PLUGIN names the library");
    control::listen();
    let runtime = multi_thread(1);
    runtime.spawn(async {
        loop {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    });
    control::ready_to_go(&options);
    let mut gone = 0;
    for _ in 0..options.rounds {
        load_run_unload(&library);
        gone += u32::from(!is_loaded(&library));
    }
    control::say(&format!(
        r#"{{"type":"counters","rounds":{},"gone":{gone}}}"#,
        options.rounds
    ));
    control::finish(&options);
}
