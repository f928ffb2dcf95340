//! What is said of programs without symbols.

use super::*;

/// A nameless function whose code refers to this file.
fn plain(near: Option<&str>) -> Frame {
    Frame {
        function_offset: Some(1),
        near: near.map(|file| SourceLocation {
            file: file.to_owned(),
            line: 1,
            column: None,
        }),
        ..Frame::default()
    }
}

/// A wait of a stripped program: in a system call of the C library, below these functions and an
/// async body of the program's.
fn stripped(number: i64, inner: Vec<Frame>) -> StackEvidence {
    let mut found = blocked(&["syscall"], number, None, 20_000_000);
    let body = Frame {
        role: Role::Own,
        async_body: true,
        ..plain(None)
    };
    found.stack.frames.truncate(1);
    found.stack.frames.extend(inner);
    found.stack.frames.push(body);
    found
}

const PARKING_LOT: Option<&str> = Some("/r/parking_lot_core-0.9.12/src/parking_lot.rs");

#[test]
fn a_nameless_lock_is_told_from_a_nameless_condition_variable_by_its_spinning() {
    let lot = plain(PARKING_LOT);
    let lock = Frame {
        yields: true,
        ..lot.clone()
    };
    let of = |number, lock: &Frame| diagnosis(stripped(number, vec![lock.clone(), plain(None)]));
    let found = of(libc::SYS_futex, &lock);
    assert_eq!(
        (found.cause, found.evidence["lock"].as_str()),
        (Cause::Lock, "mutex or rwlock")
    );
    assert_eq!(of(libc::SYS_futex, &lot).cause, Cause::ThreadWait);
    let elsewhere = Frame {
        yields: true,
        ..plain(Some("/r/flurry-1.0.0/src/map.rs"))
    };
    assert_eq!(of(libc::SYS_futex, &elsewhere).cause, Cause::ThreadWait);

    let mut yielding = stripped(libc::SYS_sched_yield, vec![lot, plain(None)]);
    yielding.stack.kind = StackKind::Runnable;
    yielding.halt = Some(Halt::Yields);
    let found = diagnose(&PollEvidence {
        split: Some(Split {
            runnable_ns: 20_000_000,
            ..Split::default()
        }),
        stacks: vec![yielding],
        ..PollEvidence::default()
    });
    assert_eq!(found.cause, Cause::Lock);
}

#[test]
fn whose_lock_it_is_must_be_known_before_anybody_is_told_to_hold_it_shorter() {
    let lock = Frame {
        yields: true,
        ..plain(PARKING_LOT)
    };
    let advice =
        |taker: Frame| diagnosis(stripped(libc::SYS_futex, vec![lock.clone(), taker])).advice;
    assert!(advice(plain(None)).starts_with("somebody holds a lock"));
    assert!(advice(plain(Some("src/store.rs"))).starts_with("hold the lock"));
    let named = diagnosis(blocked(
        &["syscall", "parking_lot::raw_mutex::RawMutex::lock_slow"],
        libc::SYS_futex,
        None,
        20_000_000,
    ));
    assert!(named.advice.starts_with("hold the lock"));
}

#[test]
fn the_start_of_a_process_is_not_told_to_await_it() {
    const UNIX: Option<&str> = Some("/rustc/0/library/std/src/sys/process/unix/unix.rs");
    let advice = |number| diagnosis(stripped(number, vec![plain(UNIX)])).advice;
    for number in [libc::SYS_clone, libc::SYS_vfork, libc::SYS_recvfrom] {
        assert!(advice(number).starts_with("starting a process"), "{number}");
    }
    assert!(advice(libc::SYS_read).starts_with("a child process is started here, or waited for"));
    assert!(advice(libc::SYS_wait4).starts_with("use tokio::process"));
    assert!(advice(libc::SYS_poll).starts_with("use tokio::process"));
    let output = blocked(
        &["read", "std::process::Child::wait_with_output"],
        libc::SYS_read,
        pipe(3, true),
        20_000_000,
    );
    assert!(diagnosis(output).advice.starts_with("use tokio::process"));
}

#[test]
fn a_nameless_wait_inside_reqwest_is_its_own_threads() {
    const CLIENT: Option<&str> = Some("/r/reqwest-0.12.28/src/blocking/client.rs");
    let mut found = stripped(libc::SYS_futex, vec![plain(CLIENT), plain(None)]);
    // Parked, as the value says too.
    found.syscall = found.syscall.map(|call| RawSyscall {
        args: [0, 128, u32::MAX.into(), 0, 0, 0],
        ..call
    });
    let found = diagnosis(found);
    assert_eq!(found.evidence["wait"], "reqwest's own thread");
    assert!(found.advice.starts_with("use reqwest's async client"));
}

#[test]
fn a_nameless_allocator_that_takes_memory_back_is_a_drop() {
    let mut found = stripped(0, vec![plain(None)]);
    found.syscall = None;
    found.stack.kind = StackKind::OnCpu;
    found.stack.frames[0] = Frame {
        role: Role::Allocator,
        runtime: true,
        ..plain(None)
    };
    let of = |found: &StackEvidence| {
        let split = Split {
            on_cpu_ns: found.stack.ns,
            ..Split::default()
        };
        diagnose(&PollEvidence {
            split: Some(split),
            stacks: vec![found.clone()],
            ..PollEvidence::default()
        })
    };
    assert_eq!(of(&found).cause, Cause::Cpu);
    found.stack.frames[0].frees = true;
    let dropping = of(&found);
    assert_eq!(dropping.cause, Cause::Drop);
    assert_eq!(dropping.call.expect("a call").function, "?+0x1");
}

#[test]
fn a_library_whose_lock_it_is_may_be_told_by_a_hint_alone() {
    let lock = Frame {
        yields: true,
        ..plain(PARKING_LOT)
    };
    let timers = plain(Some("/r/tokio-1.54.1/src/runtime/time/entry.rs"));
    let of = |inner: Vec<Frame>| diagnosis(stripped(libc::SYS_futex, inner));
    let found = of(vec![lock.clone(), plain(None), timers.clone()]);
    assert_eq!(found.evidence["lock"], "mutex or rwlock of Tokio's timers");
    assert!(
        found.advice.contains("fires many of them"),
        "{}",
        found.advice
    );
    // What the timers have called is not theirs.
    let found = of(vec![lock, plain(Some("src/store.rs")), timers]);
    assert_eq!(found.evidence["lock"], "mutex or rwlock");
}
