//! A program with Tokio that loads a shared object with a Tokio of its own while it runs.
//!
//! `loader` takes the library's path from the variable `PLUGIN`, and loads and runs it after `go`.

#[path = "../../host/src/plugin.rs"]
#[allow(dead_code)] // It opens the library, and calls nothing in it by these names.
mod plugin;

use std::time::Duration;

use targets::control::{self, Options};
use targets::runtime::multi_thread;

async fn tick() {
    loop {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn main() {
    let options = Options::parse(&["loader"]);
    let library = std::env::var("PLUGIN").expect("PLUGIN names the library");
    control::listen();
    let runtime = multi_thread(1);
    runtime.spawn(tick());
    control::ready_to_go(&options);
    let run = plugin::run(plugin::open(&library));
    // SAFETY: `plugin_run` takes any number.
    unsafe { run(options.rounds) };
    control::finish(&options);
}
