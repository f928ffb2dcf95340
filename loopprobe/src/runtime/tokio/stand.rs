//! Where a thread stands inside Tokio, outside of any task.

use crate::{
    model::{Frame, SourceLocation},
    runtime::Stand,
};

/// Parts of function names, and source files of the same for code without names.
struct Place {
    stand: Stand,
    functions: &'static [&'static str],
    files: &'static [&'static str],
}

/// The first that applies wins: shutting down parks too. A runtime that is dropped waits for the
/// threads of its blocking pool, workers included (`BlockingPool::shutdown`,
/// `tokio/src/runtime/blocking/pool.rs`, every version).
const PLACES: &[Place] = &[
    Place {
        stand: Stand::ShuttingDown,
        functions: &[
            "tokio::runtime::blocking::shutdown::Receiver",
            "tokio::runtime::blocking::pool::BlockingPool",
            "drop_in_place<tokio::runtime::runtime::Runtime>",
            "<tokio::runtime::runtime::Runtime as core::ops::drop::Drop>::drop",
        ],
        files: &["/src/runtime/blocking/shutdown.rs"],
    },
    Place {
        stand: Stand::Worker,
        functions: &[
            "tokio::runtime::scheduler::multi_thread::worker::",
            "tokio::runtime::scheduler::multi_thread::park::",
            "tokio::runtime::thread_pool::worker::",
        ],
        files: &[
            "/src/runtime/scheduler/multi_thread/worker.rs",
            "/src/runtime/scheduler/multi_thread/park.rs",
            "/src/runtime/thread_pool/worker.rs",
        ],
    },
    Place {
        stand: Stand::Parking,
        functions: &[
            "tokio::runtime::park::",
            "tokio::runtime::scheduler::current_thread::Context::park",
            "tokio::runtime::io::driver::Driver::turn",
            "tokio::runtime::time::Driver::park",
            "tokio::runtime::driver::Driver::park",
            "tokio::runtime::blocking::pool::Inner::run",
            "tokio::park::thread::",
        ],
        files: &[
            "/src/runtime/park.rs",
            "/src/runtime/io/driver.rs",
            "/src/runtime/blocking/pool.rs",
            "/src/runtime/scheduler/current_thread.rs",
            "/src/runtime/scheduler/current_thread/mod.rs",
        ],
    },
];

/// How many of the innermost frames are looked at for source files: hints, so only near to where
/// the thread waits.
const NEAR: usize = 12;

/// Where a thread stands with these frames, innermost first, and whether that is certain.
///
/// A worker runs, and a runtime is dropped, wherever such a function is on the stack. A thread
/// parks only if no code of the program's own was called since.
pub(super) fn stand(frames: &[Frame]) -> (Stand, bool) {
    let own = frames.iter().position(|frame| !frame.runtime);
    let inside = &frames[..own.unwrap_or(frames.len())];
    for place in PLACES {
        let looked_at = match place.stand {
            Stand::Parking => inside,
            _ => frames,
        };
        if looked_at.iter().any(|frame| place.names(frame)) {
            return (place.stand, true);
        }
    }
    let near = &frames[..frames.len().min(NEAR)];
    let hint = PLACES
        .iter()
        .find(|place| near.iter().any(|frame| place.hints(frame)));
    hint.map_or((Stand::Elsewhere, false), |place| (place.stand, false))
}

impl Place {
    fn names(&self, frame: &Frame) -> bool {
        let full = frame.full_name.as_ref().or(frame.function.as_ref());
        full.is_some_and(|name| self.functions.iter().any(|part| name.contains(part)))
    }

    fn hints(&self, frame: &Frame) -> bool {
        let at = [&frame.location, &frame.definition, &frame.near];
        frame.function.is_none()
            && at
                .into_iter()
                .flatten()
                .any(|location| self.holds(location))
    }

    fn holds(&self, location: &SourceLocation) -> bool {
        location.file.contains("/tokio-1.")
            && self.files.iter().any(|end| location.file.ends_with(end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(function: &str, runtime: bool) -> Frame {
        Frame {
            function: Some(function.to_owned()),
            runtime,
            ..Frame::default()
        }
    }

    fn near(file: &str) -> Frame {
        Frame {
            near: Some(SourceLocation {
                file: file.to_owned(),
                line: 1,
                column: None,
            }),
            ..Frame::default()
        }
    }

    #[test]
    fn a_runtime_that_is_dropped_parks_but_is_no_idle_one() {
        let frames = [
            named("tokio::runtime::park::Inner::park", true),
            named("tokio::runtime::blocking::shutdown::Receiver::wait", true),
            named("app::main", false),
        ];
        assert_eq!(stand(&frames), (Stand::ShuttingDown, true));
    }

    #[test]
    fn a_future_that_waits_in_block_on_does_not_park() {
        let block_on = named("tokio::runtime::park::CachedParkThread::block_on", true);
        let frames = [
            named("std::thread::sleep", true),
            named("app::root", false),
            block_on.clone(),
        ];
        assert_eq!(stand(&frames), (Stand::Elsewhere, false));
        let parked = [named("std::sys::futex_wait", true), block_on];
        assert_eq!(stand(&parked), (Stand::Parking, true));
    }

    #[test]
    fn source_files_are_hints() {
        let file = "/c/registry/src/x/tokio-1.44.2/src/runtime/scheduler/multi_thread/park.rs";
        assert_eq!(stand(&[near(file)]), (Stand::Worker, false));
        assert_eq!(
            stand(&[near("/app/src/runtime/park.rs")]).0,
            Stand::Elsewhere
        );
    }
}
