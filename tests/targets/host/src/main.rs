//! A program without Tokio that loads a shared object with Tokio inside when told to.
//!
//! `late_tokio LIBRARY ROUNDS`: prints `ready`, waits for the line `go`, loads the library and runs it; `load` loads it
//! without running it yet and prints `loaded`.

use std::ffi::CString;
use std::io::BufRead;

type Run = unsafe extern "C" fn(u32);

fn load(path: &str) -> Run {
    let path = CString::new(path).expect("a path without a null byte");
    // SAFETY: the library is the plugin beside this program; loading it runs no code of its own.
    let library = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) };
    assert!(!library.is_null(), "cannot load {path:?}");
    // SAFETY: `library` is a live handle, the name is a C string.
    let symbol = unsafe { libc::dlsym(library, c"plugin_run".as_ptr()) };
    assert!(!symbol.is_null(), "no plugin_run in {path:?}");
    // SAFETY: the plugin defines `plugin_run` with this signature.
    unsafe { std::mem::transmute::<*mut libc::c_void, Run>(symbol) }
}

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
                run = Some(load(&library));
                println!(r#"{{"type":"loaded"}}"#);
            }
            "go" => {
                let run = *run.get_or_insert_with(|| load(&library));
                // SAFETY: `plugin_run` takes any number.
                unsafe { run(rounds) };
            }
            "quit" => break,
            _ => {}
        }
    }
}
