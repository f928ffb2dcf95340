//! Loading a shared object that has Tokio inside.

use std::ffi::CString;

/// What the plugin exports.
pub type Run = unsafe extern "C" fn(u32);

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
    // SAFETY: `library` is a live handle, the name is a C string.
    let symbol = unsafe { libc::dlsym(library, c"plugin_run".as_ptr()) };
    assert!(!symbol.is_null(), "no plugin_run");
    // SAFETY: the plugin defines `plugin_run` with this signature.
    unsafe { std::mem::transmute::<*mut libc::c_void, Run>(symbol) }
}
