//! Waits: what ended them, and what is said of what was waited for.

use super::*;

#[test]
fn the_runtime_that_polls_the_task_is_no_nested_loop() {
    let mut found = blocked(&[], libc::SYS_futex, None, 1_000_000);
    found.stack.frames.push(frame(
        "tokio::runtime::scheduler::current_thread::Core::run",
        true,
    ));
    assert_eq!(diagnosis(found).cause, Cause::ThreadWait);
}

#[test]
fn a_loop_that_was_inlined_shows_in_its_callers_hint() {
    let mut found = blocked(&["syscall"], libc::SYS_futex, None, 1_000_000);
    found.stack.frames[1].near = Some(SourceLocation {
        file: "/r/futures-executor-0.3.31/src/local_pool.rs".to_owned(),
        line: 1,
        column: None,
    });
    assert_eq!(diagnosis(found.clone()).cause, Cause::NestedBlockOn);
    found.stack.frames[2].near = found.stack.frames[1].near.take();
    assert_eq!(diagnosis(found.clone()).cause, Cause::ThreadWait);
    // Between the wait and the loop lies a function of the standard library's, of which a stripped
    // program says nothing.
    found.stack.frames[1].function = None;
    found.stack.frames[1].role = Role::Unknown;
    assert_eq!(diagnosis(found).cause, Cause::NestedBlockOn);
}

#[test]
fn a_wait_without_a_system_call_is_a_page_fault() {
    let mut found = blocked(&[], 0, None, 5_000_000);
    found.syscall = None;
    // A probe held the thread.
    assert_eq!(diagnosis(found.clone()).cause, Cause::Unknown);
    found.page_fault = true;
    assert_eq!(diagnosis(found).cause, Cause::PageFault);
}

#[test]
fn who_ended_a_wait_is_said() {
    let mut found = blocked(
        &["std::sys::sync::mutex::futex::Mutex::lock_contended"],
        libc::SYS_futex,
        None,
        9,
    );
    found.waker = Some(Waker {
        tid: 12,
        name: "writer".to_owned(),
        frames: frames(&["syscall"]),
        looped_ns: 0,
        work: None,
    });
    assert_eq!(
        diagnosis(found).evidence["holder"],
        "writer (12) in app::helper"
    );
}

#[test]
fn how_a_library_wakes_is_not_what_its_thread_did() {
    let mut found = blocked(
        &["rayon_core::latch::LockLatch::wait"],
        libc::SYS_futex,
        None,
        9,
    );
    let set = Frame {
        role: Role::Dependency,
        ..frame("rayon_core::latch::LatchRef::set", false)
    };
    let woken = |found: &mut StackEvidence, frames| {
        found.waker = Some(Waker {
            tid: 12,
            name: "rayon-0".to_owned(),
            frames,
            looped_ns: 0,
            work: None,
        });
        diagnosis(found.clone()).evidence["waker"].clone()
    };
    assert_eq!(woken(&mut found, vec![set.clone()]), "rayon-0 (12)");
    let own = vec![set, frame("app::tile", false)];
    assert_eq!(woken(&mut found, own), "rayon-0 (12) in app::tile");
}

#[test]
fn what_the_thread_did_that_ended_a_wait_is_said() {
    let mut found = blocked(&["std::thread::park"], libc::SYS_futex, None, 9_000_000);
    found.waker = Some(Waker {
        tid: 12,
        name: "pool-0".to_owned(),
        frames: Vec::new(),
        looped_ns: 0,
        work: Some(crate::diagnose::Work {
            frames: frames(&[]),
            ns: 7_500_000,
        }),
    });
    let expected = "pool-0 (12), which computed for at least 7 ms meanwhile, mostly in app::helper";
    assert_eq!(diagnosis(found).evidence["waker"], expected);
}

#[test]
fn a_lock_below_a_logger_is_told_by_the_value_that_is_waited_for() {
    let mut found = blocked(
        &["syscall", "std::io::stdio::_print"],
        libc::SYS_futex,
        None,
        9,
    );
    assert_eq!(diagnosis(found.clone()).cause, Cause::ThreadWait);
    found.syscall = Some(RawSyscall {
        number: 202,
        args: [0x1000, 137, 2, 0, 0, 0],
    });
    let found = diagnosis(found);
    assert_eq!(found.cause, Cause::Lock);
    assert_eq!(found.evidence["lock"], "mutex of standard output or error");
}

#[test]
fn a_pipe_says_which_and_who_has_its_other_end() {
    let found = diagnosis(blocked(
        &["write", "std::io::stdio::_print"],
        libc::SYS_write,
        pipe(1, false),
        9,
    ));
    assert_eq!(found.evidence["fd"], "1 (stdout)");
    assert_eq!(found.evidence["peer_process"], "reader (7)");
    assert!(!found.advice.contains("tokio::fs"), "{}", found.advice);
}

#[test]
fn a_socket_below_an_event_loop_is_in_the_wrong_mode() {
    let misused = Some(Object::Socket(Socket {
        blocking: Some(true),
        watched: true,
        ..Socket::default()
    }));
    let found = diagnosis(blocked(&[], libc::SYS_recvfrom, misused, 9));
    assert_eq!(
        (found.cause, found.evidence["blocking_mode"].as_str()),
        (Cause::Network, "true")
    );
    assert!(
        found.advice.contains("set_nonblocking(true)"),
        "{}",
        found.advice
    );
}

#[test]
fn a_lock_says_what_it_is() {
    let held = Some(Object::Futex { holder: Some(42) });
    let of = |inner: &[&str]| {
        diagnosis(blocked(inner, libc::SYS_futex, held.clone(), 1_000_000)).evidence
    };
    let standard = of(&["std::sys::sync::mutex::futex::Mutex::lock_contended"]);
    assert_eq!(standard["lock"], "mutex");
    let timers = of(&[
        "parking_lot::raw_mutex::RawMutex::lock_slow",
        "tokio::runtime::time::x",
    ]);
    assert_eq!(timers["lock"], "mutex of Tokio's timers");
    assert!(!standard.contains_key("holder_tid"));
    let posix = of(&["__lll_lock_wait", "pthread_mutex_lock"]);
    assert_eq!(posix["holder_tid"], "42");
    assert_eq!(
        of(&["std::sys::sync::rwlock::futex::RwLock::write_contended"])["lock"],
        "rwlock"
    );
}

#[test]
fn a_path_that_was_looked_up_too_late_is_known_from_another_stack() {
    let other = blocked(&[], libc::SYS_read, file("/a"), 1);
    let found = diagnose(&PollEvidence {
        stacks: vec![blocked(&[], libc::SYS_read, None, 9), other],
        ..PollEvidence::default()
    });
    assert_eq!(found.cause, Cause::FileIo);
    assert_eq!(found.evidence["path"], "/a");
}

#[test]
fn a_lock_that_spins_before_it_sleeps_is_a_lock() {
    let mut found = blocked(
        &["sched_yield", "parking_lot::raw_mutex::RawMutex::lock_slow"],
        libc::SYS_sched_yield,
        None,
        20_000_000,
    );
    found.stack.kind = StackKind::Runnable;
    found.halt = Some(Halt::Yields);
    let found = diagnose(&PollEvidence {
        split: Some(Split {
            runnable_ns: 21_000_000,
            ..Split::default()
        }),
        stacks: vec![found],
        ..PollEvidence::default()
    });
    assert_eq!(found.cause, Cause::Lock);
    assert_eq!(found.call.unwrap().function, "app::helper");
}
