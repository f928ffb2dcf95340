//! Whose code Tokio is.

use crate::runtime::Plumbing;

pub(super) const PLUMBING: Plumbing = Plumbing {
    crates: &["tokio", "tokio_util", "tokio_stream", "mio"],
    functions: &[],
    loops: &[
        "tokio::runtime::park::",
        "tokio::runtime::context::blocking::",
        "tokio::runtime::io::driver::",
        "tokio::runtime::scheduler::current_thread::",
        "tokio::runtime::runtime::Runtime::block_on",
        "tokio::runtime::handle::Handle::block_on",
        "tokio::runtime::blocking::shutdown",
        "mio::poll::",
    ],
    loop_files: &["/src/runtime/park.rs"],
};
