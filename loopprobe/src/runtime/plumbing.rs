//! Which crates, functions and files belong to a runtime, and which of them drive a loop.

use super::Runtimes;

/// Whose code a runtime is: what a reader of a stack is not interested in, as it is not the
/// program's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plumbing {
    /// Crates whose functions are the runtime's.
    pub crates: &'static [&'static str],
    /// Functions without a path that are.
    pub functions: &'static [&'static str],
    /// Paths that begin so are functions that drive a loop: a thread that waits there inside a poll
    /// waits in another loop. Causes ask that of [`super::RUNTIMES`], whichever a session looks
    /// for.
    pub loops: &'static [&'static str],
    /// Parts of the paths of source files with such functions, for code without names.
    pub loop_files: &'static [&'static str],
}

impl Plumbing {
    /// Whether a crate is a runtime's.
    pub fn owns_crate(runtimes: Runtimes, krate: &str) -> bool {
        let mut all = runtimes
            .iter()
            .flat_map(|runtime| runtime.plumbing().crates);
        all.any(|owned| *owned == krate)
    }

    /// Whether a function without a path is a runtime's.
    pub fn owns_function(runtimes: Runtimes, name: &str) -> bool {
        let mut all = runtimes
            .iter()
            .flat_map(|runtime| runtime.plumbing().functions);
        all.any(|owned| *owned == name)
    }

    /// Whether a path is that of a function that drives a loop.
    pub fn drives_loop(runtimes: Runtimes, path: &str) -> bool {
        let mut all = runtimes.iter().flat_map(|runtime| runtime.plumbing().loops);
        all.any(|begin| path.starts_with(begin))
    }

    /// Whether a source file has such functions.
    pub fn is_loop_file(runtimes: Runtimes, file: &str) -> bool {
        let mut all = runtimes
            .iter()
            .flat_map(|runtime| runtime.plumbing().loop_files);
        all.any(|part| file.contains(part))
    }
}
