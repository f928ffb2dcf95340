//! A program with Tokio that loads a shared object with a Tokio of its own while it runs.
//!
//! `loader` takes the library's path from the variable `PLUGIN`, and loads and runs it after `go`.

#[path = "../../host/src/plugin.rs"]
mod plugin;

use std::time::Duration;

use targets::control::{self, Gate, Options};
use tokio::runtime::Builder;

async fn tick() {
    loop {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn main() {
    let options = Options::parse(&["loader"]);
    let library = std::env::var("PLUGIN").expect("PLUGIN names the library");
    control::listen();
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()
        .expect("a runtime");
    runtime.spawn(tick());
    control::ready();
    if options.gate != Gate::None {
        control::wait_go();
    }
    let run = plugin::load(&library);
    // SAFETY: `plugin_run` takes any number.
    unsafe { run(options.rounds) };
    control::finish(&options);
}
