//! The tasks of [`tasks`] in a shared object, as in a Python or Node extension. `late_tokio` loads
//! and runs it.

mod futures;
mod tasks;
mod wrappers;

/// Spawns the tasks, says what they are, and keeps them for as long as the process lives.
#[no_mangle]
pub extern "C" fn plugin_run(_rounds: u32) {
    let alive = tasks::spawn_all();
    targets::control::say(r#"{"type":"spawned"}"#);
    loop {
        std::thread::park();
        std::hint::black_box(&alive);
    }
}
