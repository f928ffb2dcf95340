//! Loads a shared object with Tokio inside, runs it, and unloads it, over and over; prints how often it was gone again.
//!
//! The variable `PLUGIN` names the library.

use std::ffi::CString;

use targets::control::{self, Gate, Options};
use tokio::runtime::Builder;

fn is_loaded(path: &str) -> bool {
    std::fs::read_to_string("/proc/self/maps").is_ok_and(|maps| maps.contains(path))
}

/// On a thread of its own, whose thread-local values would otherwise keep the library in memory.
fn load_run_unload(path: &str) {
    let name = CString::new(path).expect("a path without a null byte");
    // SAFETY: the library is the plugin of this workspace, which defines `plugin_run` with this signature; it is run on
    // a thread that has ended before it is unloaded, and its runtime with it.
    unsafe {
        let library = libc::dlopen(name.as_ptr(), libc::RTLD_NOW);
        assert!(!library.is_null(), "cannot load {path}");
        let symbol = libc::dlsym(library, c"plugin_run".as_ptr());
        assert!(!symbol.is_null(), "no plugin_run in {path}");
        let run = std::mem::transmute::<*mut libc::c_void, unsafe extern "C" fn(u32)>(symbol);
        std::thread::spawn(move || run(1)).join().expect("no panic");
        assert_eq!(libc::dlclose(library), 0);
    }
}

fn main() {
    let options = Options::parse(&["reloader"]);
    let library = std::env::var("PLUGIN").expect("PLUGIN names the library");
    control::listen();
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()
        .expect("a runtime");
    runtime.spawn(async {
        loop {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    });
    control::ready();
    if options.gate != Gate::None {
        control::wait_go();
    }
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
