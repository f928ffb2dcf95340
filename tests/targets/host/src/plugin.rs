//! Loading a shared object that has Tokio inside.

use std::ffi::{CStr, CString};

/// What the plugin exports.
pub type Run = unsafe extern "C" fn(u32);
/// The same: one call of `block_on`, on a runtime of several threads or not, with the round's
/// number.
pub type Call = unsafe extern "C" fn(bool, u32);
/// The same: prints the truth.
pub type Dump = unsafe extern "C" fn();

/// Loads the plugin at `path`.
pub fn open(path: &str) -> *mut libc::c_void {
    let path = CString::new(path).expect("a path without a null byte");
    // SAFETY: the library is the plugin of this workspace; loading it runs no code of its own.
    let library = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) };
    assert!(!library.is_null(), "cannot load {path:?}");
    library
}

/// What a loaded plugin runs.
pub fn run(library: *mut libc::c_void) -> Run {
    // SAFETY: the plugin defines `plugin_run` with this signature.
    unsafe { std::mem::transmute::<*mut libc::c_void, Run>(symbol(library, c"plugin_run")) }
}

/// Its single calls.
pub fn call(library: *mut libc::c_void) -> (Call, Dump) {
    let (call, dump) = (
        symbol(library, c"plugin_call"),
        symbol(library, c"plugin_dump"),
    );
    // SAFETY: the plugin defines both with these signatures.
    unsafe {
        (
            std::mem::transmute::<*mut libc::c_void, Call>(call),
            std::mem::transmute::<*mut libc::c_void, Dump>(dump),
        )
    }
}

fn symbol(library: *mut libc::c_void, name: &CStr) -> *mut libc::c_void {
    // SAFETY: `library` is a live handle, the name is a C string.
    let symbol = unsafe { libc::dlsym(library, name.as_ptr()) };
    assert!(!symbol.is_null(), "no {name:?}");
    symbol
}
