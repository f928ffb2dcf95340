//! Advice and evidence that fit what is seen.

use super::*;

fn advice(found: StackEvidence) -> String {
    diagnosis(found).advice
}

/// A wait below functions of these roles, inside the program's own.
fn below(number: i64, inner: &[(&str, Role)]) -> StackEvidence {
    let names: Vec<&str> = inner.iter().map(|(name, _)| *name).collect();
    let mut found = blocked(&names, number, None, 20_000_000);
    for (frame, (_, role)) in found.stack.frames.iter_mut().zip(inner) {
        frame.role = *role;
        frame.runtime = role.is_plumbing();
    }
    found
}

#[test]
fn a_nap_is_the_programs_own_unless_a_library_of_c_takes_it() {
    let naps = libc::SYS_clock_nanosleep;
    let own = advice(below(
        naps,
        &[("clock_nanosleep", Role::C), ("usleep", Role::C)],
    ));
    assert!(own.starts_with("use tokio::time::sleep"), "{own}");
    let library = advice(below(
        naps,
        &[
            ("clock_nanosleep", Role::C),
            ("usleep", Role::C),
            ("lib_wait_ready", Role::Dependency),
        ],
    ));
    assert!(library.starts_with("a C library naps"), "{library}");
    let std = advice(below(
        naps,
        &[("nanosleep", Role::C), ("std::thread::sleep", Role::Std)],
    ));
    assert!(std.contains("instead of std::thread::sleep"), "{std}");
}

#[test]
fn an_event_loop_of_ones_own_is_no_block_on() {
    let own = advice(below(
        libc::SYS_epoll_wait,
        &[
            ("epoll_wait", Role::C),
            ("polling::Poller::wait", Role::Dependency),
        ],
    ));
    assert!(own.contains("AsyncFd"), "{own}");
    let block_on = advice(below(
        libc::SYS_epoll_wait,
        &[
            ("epoll_wait", Role::C),
            ("async_io::driver::block_on", Role::Dependency),
        ],
    ));
    assert!(block_on.starts_with("await the future"), "{block_on}");
}

#[test]
fn a_loggers_full_queue_is_the_loggers() {
    let of = |inner: &[(&str, Role)]| advice(below(libc::SYS_futex, inner));
    let channel = ("crossbeam_channel::channel::Sender::send", Role::Runtime);
    let plain = of(&[("syscall", Role::C), channel]);
    assert!(plain.starts_with("use tokio::sync::mpsc"), "{plain}");
    let logger = of(&[
        ("syscall", Role::C),
        channel,
        ("tracing_core::event::Event::dispatch", Role::Logging),
    ]);
    assert!(logger.starts_with("the logger's queue"), "{logger}");
}

#[test]
fn a_cell_that_is_filled_elsewhere_is_not_a_lock_held_too_long() {
    let cell = advice(below(
        libc::SYS_futex,
        &[("std::sync::once_lock::OnceLock::initialize", Role::Std)],
    ));
    assert!(cell.contains("OnceCell"), "{cell}");
}

#[test]
fn a_wait_for_nobody_knows_what_says_so() {
    let unknown = diagnosis(below(libc::SYS_futex, &[("syscall", Role::C)]));
    assert_eq!(unknown.cause, Cause::ThreadWait);
    assert!(unknown.advice.contains("nothing tells what"), "{unknown:?}");
    let known = advice(below(libc::SYS_futex, &[("std::thread::park", Role::Std)]));
    assert!(known.starts_with("let the other thread answer"), "{known}");
    let event = diagnosis(below(libc::SYS_read, &[("read", Role::C)]));
    assert_eq!(event.cause, Cause::Unknown);
    assert!(event.advice.contains("AsyncFd"), "{event:?}");
}

#[test]
fn a_map_of_locks_is_a_lock() {
    let map = diagnosis(below(
        libc::SYS_futex,
        &[
            ("syscall", Role::C),
            (
                "dashmap::lock::RawRwLock::lock_exclusive_slow",
                Role::Dependency,
            ),
        ],
    ));
    assert_eq!(map.cause, Cause::Lock);
    assert_eq!(map.evidence["lock"], "rwlock of a DashMap");
}

#[test]
fn a_named_pipe_that_is_opened_is_no_file() {
    let mut found = below(libc::SYS_openat, &[("open64", Role::C)]);
    found.object = Some(Object::Any(vec![
        Object::File {
            path: "/run/x".to_owned(),
            opened_to_read: None,
        },
        Object::Pipe(Pipe {
            fd: None,
            inode: 1,
            reads: true,
            peers: Vec::new(),
            child: false,
        }),
    ]));
    let found = diagnosis(found);
    assert_eq!(found.cause, Cause::Pipe);
    assert_eq!(found.evidence["path"], "/run/x");
    assert!(found.advice.contains("named pipe"), "{found:?}");
}

#[test]
fn a_locked_file_names_who_holds_it() {
    let mut found = below(libc::SYS_flock, &[("flock", Role::C)]);
    found.object = Some(Object::Locked(LockedFile {
        path: Some("/run/lock".to_owned()),
        inode: 1,
        holders: vec!["backup (812)".to_owned()],
    }));
    let found = diagnosis(found);
    assert_eq!(found.cause, Cause::Lock);
    let said = |name: &str| found.evidence[name].as_str();
    assert_eq!(
        [said("path"), said("holder"), said("lock")],
        [
            "/run/lock",
            "backup (812) when this was reported",
            "file lock"
        ]
    );
}

/// The diagnosis of samples alone.
fn computed(stacks: Vec<StackEvidence>) -> crate::model::Diagnosis {
    diagnose(&PollEvidence {
        stacks,
        ..PollEvidence::default()
    })
}

#[test]
fn copying_is_said_only_where_most_samples_copy() {
    let copying = || on_cpu(&["__memcpy_avx_unaligned_erms"], 4);
    let half = computed(vec![copying(), on_cpu(&["core::slice::sort"], 5)]);
    assert!(!half.evidence.contains_key("copying"), "{half:?}");
    assert!(half.advice.starts_with("move the computation"), "{half:?}");
    let most = computed(vec![copying(), on_cpu(&["core::slice::sort"], 3)]);
    assert!(most.advice.contains("copies much memory"), "{most:?}");
    let mut fresh = copying();
    fresh.page_fault = true;
    let fresh = computed(vec![fresh]);
    assert_eq!(fresh.cause, Cause::PageFault);
    assert!(fresh.advice.contains("has not used yet"), "{fresh:?}");
}

#[test]
fn who_had_the_cpu_decides_what_to_do() {
    let of = |process| {
        let taker = Taker {
            name: "rayon-0".to_owned(),
            process,
            had_ns: 20_000_000,
        };
        let found = diagnose(&PollEvidence {
            split: Some(Split {
                runnable_ns: 20_000_000,
                ..Split::default()
            }),
            takers: vec![taker],
            ..PollEvidence::default()
        });
        assert_eq!(found.cause, Cause::Preempted);
        found.advice
    };
    let (own, other) = (of(None), of(Some(7)));
    assert!(own.starts_with("other threads of this process"), "{own}");
    assert!(other.contains("move the neighbours away"), "{other}");
}

#[test]
fn work_of_the_kernel_is_not_a_computation_to_move_to_rayon() {
    let mut found = on_cpu(&["getrandom"], 5);
    found.syscall = blocked(&[], libc::SYS_getrandom, None, 1).syscall;
    let found = computed(vec![found]);
    assert_eq!(found.cause, Cause::Cpu);
    assert!(found.advice.starts_with("the kernel works"), "{found:?}");
}

#[test]
fn what_may_be_javascript_is_marked_so() {
    let mut found = on_cpu(&[], 5);
    found.may_be_javascript = true;
    for frame in &mut found.stack.frames {
        frame.function = None;
        frame.role = Role::Unknown;
    }
    let nameless = computed(vec![found.clone()]);
    assert!(
        nameless.evidence["guest"].starts_with("perhaps"),
        "{nameless:?}"
    );
    assert!(nameless.advice.starts_with("if JavaScript"), "{nameless:?}");
    found.stack.frames[0].role = Role::V8;
    found.stack.frames[0].address = Some(0x1000);
    let made = computed(vec![found]);
    assert!(made.evidence["guest"].starts_with("JavaScript"), "{made:?}");
    assert!(made.advice.starts_with("an interpreter"), "{made:?}");
}

#[test]
fn a_thread_with_a_loop_of_its_own_says_how_long_that_waited() {
    let mut found = below(
        libc::SYS_futex,
        &[(
            "reqwest::blocking::client::Client::execute",
            Role::Dependency,
        )],
    );
    found.waker = Some(Waker {
        tid: 7,
        name: "client".to_owned(),
        frames: Vec::new(),
        looped_ns: 48_000_000,
        work: None,
    });
    let waker = diagnosis(found).evidence["waker"].clone();
    assert_eq!(
        waker,
        "client (7), which waited for at least 48 ms meanwhile in its own event loop, for I/O or a timer"
    );
}
