//! Invented stacks and splits, each with the cause, call and advice that it must have.

mod fitting;
mod stripped;

use super::*;
use crate::model::{Cause, Frame, Outcome, Role, SourceLocation, Split, Stack, StackKind};

fn frame(name: &str, runtime: bool) -> Frame {
    Frame {
        function: Some(name.to_owned()),
        runtime,
        role: if runtime { Role::Std } else { Role::Own },
        ..Frame::default()
    }
}

/// A stack of a task: the given runtime frames, then the user's function in an async function, then
/// the poll's glue.
fn frames(inner: &[&str]) -> Vec<Frame> {
    let mut frames: Vec<Frame> = inner.iter().map(|name| frame(name, true)).collect();
    frames.push(frame("app::helper", false));
    frames.push(Frame {
        async_body: true,
        ..frame("app::handle", false)
    });
    frames.push(frame("tokio::runtime::task::raw::poll", true));
    frames
}

fn blocked(inner: &[&str], number: i64, object: Option<Object>, ns: u64) -> StackEvidence {
    StackEvidence {
        stack: Stack {
            ns,
            start_ns: 0,
            kind: StackKind::Blocked,
            outcome: Outcome::Complete,
            syscall: None,
            frames: frames(inner),
        },
        syscall: Some(RawSyscall {
            number: u32::try_from(number).expect("a number"),
            args: [1; 6],
        }),
        object,
        page_fault: false,
        halt: None,
        waker: None,
        spins: false,
        may_be_javascript: false,
        ready_loop: None,
    }
}

fn on_cpu(inner: &[&str], ns: u64) -> StackEvidence {
    let mut found = blocked(inner, 0, None, ns);
    found.stack.kind = StackKind::OnCpu;
    found.syscall = None;
    found
}

fn diagnosis(stack: StackEvidence) -> crate::model::Diagnosis {
    diagnose(&PollEvidence {
        split: Some(Split {
            blocked_ns: stack.stack.ns,
            ..Split::default()
        }),
        stacks: vec![stack],
        ..PollEvidence::default()
    })
}

fn socket(peer: &str) -> Option<Object> {
    Some(Object::Socket(Socket {
        protocol: "tcp".to_owned(),
        peer: Some(peer.to_owned()),
        ..Socket::default()
    }))
}

fn pipe(fd: u32, child: bool) -> Option<Object> {
    Some(Object::Pipe(Pipe {
        fd: Some(fd),
        inode: 1,
        reads: fd == 0,
        peers: vec!["reader (7)".to_owned()],
        child,
    }))
}

fn file(path: &str) -> Option<Object> {
    Some(Object::File {
        path: path.to_owned(),
        opened_to_read: None,
    })
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn each_way_to_block_has_its_cause() {
    let unnamed: &[&str] = &[];
    for (inner, number, object, expected) in [
        (
            &["clock_nanosleep", "std::thread::sleep"][..],
            libc::SYS_clock_nanosleep,
            None,
            Cause::Sleep,
        ),
        (unnamed, libc::SYS_nanosleep, None, Cause::Sleep),
        (unnamed, libc::SYS_read, file("/var/big"), Cause::FileIo),
        (unnamed, libc::SYS_openat, file("/var/big"), Cause::FileIo),
        (unnamed, libc::SYS_read, None, Cause::Unknown),
        (&["std::fs::read"], libc::SYS_read, None, Cause::FileIo),
        (unnamed, libc::SYS_write, pipe(1, false), Cause::Pipe),
        (unnamed, libc::SYS_poll, pipe(3, false), Cause::Pipe),
        (unnamed, libc::SYS_read, pipe(3, true), Cause::Child),
        (unnamed, libc::SYS_munmap, None, Cause::MemoryMap),
        (unnamed, libc::SYS_close, None, Cause::Closing),
        (unnamed, libc::SYS_sched_yield, None, Cause::Spin),
        (
            &["__libc_recv", "std::process::Command::spawn"],
            libc::SYS_recvfrom,
            socket("x"),
            Cause::Child,
        ),
        (
            &["nanosleep", "unixSleep", "sqlite3_step"],
            libc::SYS_clock_nanosleep,
            None,
            Cause::Database,
        ),
        (
            &["fdatasync", "sqlite3_step"],
            libc::SYS_fdatasync,
            file("/t.db"),
            Cause::Database,
        ),
        (
            &[
                "std::sys::sync::mutex::futex::Mutex::lock_contended",
                "sqlite3_step",
            ],
            libc::SYS_futex,
            None,
            Cause::Lock,
        ),
        (
            &[
                "parking_lot::raw_mutex::RawMutex::lock_slow",
                "tokio::runtime::time::clear_entry",
            ],
            libc::SYS_futex,
            None,
            Cause::Lock,
        ),
        (
            &[
                "std::sys::sync::condvar::futex::Condvar::wait",
                "rayon_core::latch::LockLatch::wait_and_reset",
            ],
            libc::SYS_futex,
            None,
            Cause::ThreadWait,
        ),
        (
            &[
                "std::thread::functions::park_timeout",
                "reqwest::blocking::client::Client::execute",
            ],
            libc::SYS_futex,
            None,
            Cause::ThreadWait,
        ),
        (
            &["std::thread::park", "std::sync::mpmc::list::Channel::recv"],
            libc::SYS_futex,
            None,
            Cause::Channel,
        ),
        (
            &["pthread_cond_timedwait", "take_gil", "PyGILState_Ensure"],
            libc::SYS_futex,
            None,
            Cause::Lock,
        ),
        (
            &["std::backtrace::Backtrace::capture"],
            libc::SYS_openat,
            file("/app"),
            Cause::Backtrace,
        ),
        (
            &["write", "std::fs::write"],
            libc::SYS_write,
            socket("10.0.0.1:80"),
            Cause::FileIo,
        ),
        (
            &["std::process::Command::output"],
            libc::SYS_read,
            pipe(3, false),
            Cause::Child,
        ),
        (
            &["std::process::Command::output"],
            libc::SYS_poll,
            pipe(3, false),
            Cause::Child,
        ),
        (unnamed, libc::SYS_fsync, file("/var/big"), Cause::Fsync),
        (unnamed, libc::SYS_fdatasync, None, Cause::Fsync),
        (
            unnamed,
            libc::SYS_read,
            socket("10.0.0.1:80"),
            Cause::Network,
        ),
        (
            unnamed,
            libc::SYS_recvfrom,
            socket("10.0.0.1:80"),
            Cause::Network,
        ),
        (unnamed, libc::SYS_connect, None, Cause::Network),
        (
            unnamed,
            libc::SYS_poll,
            socket("10.0.0.1:80"),
            Cause::Network,
        ),
        (unnamed, libc::SYS_poll, socket("10.0.0.1:53"), Cause::Dns),
        (&["poll", "getaddrinfo"], libc::SYS_poll, None, Cause::Dns),
        (
            &["getaddrinfo"],
            libc::SYS_openat,
            file("/etc/hosts"),
            Cause::Dns,
        ),
        (unnamed, libc::SYS_futex, None, Cause::ThreadWait),
        (unnamed, libc::SYS_flock, file("/run/lock"), Cause::Lock),
        (unnamed, libc::SYS_wait4, None, Cause::Child),
        (unnamed, libc::SYS_waitid, None, Cause::Child),
        (unnamed, libc::SYS_epoll_wait, None, Cause::NestedBlockOn),
        (
            &["tokio::runtime::park::Inner::park"],
            libc::SYS_futex,
            None,
            Cause::NestedBlockOn,
        ),
        (
            &["futures_executor::local_pool::block_on"],
            libc::SYS_futex,
            None,
            Cause::NestedBlockOn,
        ),
        (unnamed, libc::SYS_getpid, None, Cause::Unknown),
    ] {
        let found = diagnosis(blocked(inner, number, object.clone(), 20_000_000));
        assert_eq!(found.cause, expected, "{inner:?} {number} {object:?}");
        assert_eq!(found.call.expect("a call").function, "app::helper");
        assert_eq!(
            found.innermost.expect("an async fn").function,
            "app::handle"
        );
    }
}

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
fn what_stops_a_thread_comes_before_what_it_was_doing() {
    let of = |number: Option<i64>, halt| {
        let mut found = blocked(&[], number.unwrap_or(0), None, 5_000_000);
        found.syscall = found.syscall.filter(|_| number.is_some());
        found.halt = Some(halt);
        diagnosis(found)
    };
    let stopped = of(None, Halt::Stopped { signal: Some(19) });
    assert_eq!(
        (stopped.cause, stopped.evidence["signal"].as_str()),
        (Cause::Stopped, "SIGSTOP")
    );
    assert_eq!(of(Some(libc::SYS_futex), Halt::Frozen).cause, Cause::Frozen);
    assert_eq!(of(Some(libc::SYS_read), Halt::Traced).cause, Cause::Stopped);
    assert_eq!(
        of(None, Halt::Reclaim { group: true }).cause,
        Cause::Reclaim
    );
    assert_eq!(of(None, Halt::Elsewhere).cause, Cause::Unknown);
}

#[test]
fn a_yield_is_no_preemption() {
    let mut found = blocked(&["sched_yield"], libc::SYS_sched_yield, None, 20_000_000);
    found.stack.kind = StackKind::Runnable;
    found.halt = Some(Halt::Yields);
    let taker = Taker {
        name: "hog".to_owned(),
        process: Some(7),
        waited_ns: 9_000_000,
    };
    let of = |stacks| {
        diagnose(&PollEvidence {
            split: Some(Split {
                runnable_ns: 21_000_000,
                ..Split::default()
            }),
            stacks,
            takers: vec![taker.clone()],
            ..PollEvidence::default()
        })
    };
    let spun = of(vec![found]);
    assert_eq!(spun.cause, Cause::Spin);
    assert_eq!(spun.call.expect("a call").function, "app::helper");
    let preempted = of(Vec::new());
    assert_eq!(preempted.cause, Cause::Preempted);
    assert_eq!(preempted.evidence["preempted_by"], "hog (7) 9 ms");
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
fn what_an_interpreter_does_below_the_blamed_call_is_a_callbacks() {
    let guest = |name: &str, address| Frame {
        role: Role::CPython,
        address,
        ..frame(name, true)
    };
    let mut found = blocked(&["clock_nanosleep"], libc::SYS_clock_nanosleep, None, 9);
    let native = diagnosis(found.clone());
    assert!(native.advice.starts_with("use tokio::time::sleep"));
    let inner = [
        guest("time_sleep", None),
        guest("py::nap:/app/x.py", Some(0x1000)),
    ];
    found.stack.frames.splice(1..1, inner);
    let called = diagnosis(found.clone());
    assert!(called.advice.starts_with("an interpreter runs here"));
    assert_eq!(called.evidence["guest"], "py::nap:/app/x.py");
    assert_eq!(called.call.expect("a call").function, "app::helper");
    // What Python has called is no callback.
    found.stack.frames.insert(1, frame("app::native", false));
    let native = diagnosis(found);
    assert!(native.advice.starts_with("use tokio::time::sleep"));
    assert_eq!(native.evidence.get("guest"), None);
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
    let expected = "pool-0 (12), which computed for 7 ms meanwhile, mostly in app::helper";
    assert_eq!(diagnosis(found).evidence["waker"], expected);
}

#[test]
fn a_loop_that_waits_spins_on_its_cpu() {
    let mut found = on_cpu(&[], 9);
    let of = |found: &StackEvidence| {
        diagnose(&PollEvidence {
            split: Some(Split {
                on_cpu_ns: 9,
                ..Split::default()
            }),
            stacks: vec![found.clone()],
            ..PollEvidence::default()
        })
    };
    assert_eq!(of(&found).cause, Cause::Cpu);
    found.spins = true;
    let spun = of(&found);
    assert_eq!(spun.cause, Cause::Spin);
    assert!(spun.advice.contains("keeps its CPU"), "{}", spun.advice);
}

#[test]
fn what_was_a_polls_own_keeps_the_advice_for_its_situation() {
    let wait = blocked(
        &[
            "std::sys::sync::mutex::futex::Mutex::lock_contended",
            "std::io::stdio::_print",
        ],
        libc::SYS_futex,
        None,
        30,
    );
    let found = diagnose(&PollEvidence {
        split: Some(Split {
            blocked_ns: 30,
            runnable_ns: 70,
            ..Split::default()
        }),
        stacks: vec![wait],
        ..PollEvidence::default()
    });
    assert_eq!(found.cause, Cause::Preempted);
    assert!(
        found
            .advice
            .contains("another thread holds the lock while it writes"),
        "{}",
        found.advice
    );
}

#[test]
fn the_largest_part_decides() {
    let stacks = vec![
        blocked(&[], libc::SYS_read, file("/a"), 4_000_000),
        on_cpu(&[], 3_000_000),
        blocked(&[], libc::SYS_pread64, file("/b"), 5_000_000),
        blocked(&[], libc::SYS_clock_nanosleep, None, 7_000_000),
    ];
    let found = diagnose(&PollEvidence {
        split: Some(Split {
            on_cpu_ns: 3_000_000,
            runnable_ns: 6_000_000,
            blocked_ns: 16_000_000,
        }),
        stacks,
        ..PollEvidence::default()
    });
    assert_eq!(found.cause, Cause::FileIo);
    assert_eq!(found.evidence["path"], "/b");
    assert_eq!(found.evidence["syscall"], "pread64");
    assert_eq!(found.evidence["ns"], "9000000");
}

#[test]
fn short_waits_count_with_the_ones_that_were_seen() {
    let of = |seen| {
        diagnose(&PollEvidence {
            split: Some(Split {
                blocked_ns: 100,
                ..Split::default()
            }),
            stacks: vec![blocked(&[], libc::SYS_fsync, None, seen)],
            ..PollEvidence::default()
        })
    };
    assert_eq!(of(10).cause, Cause::Fsync);
    assert_eq!(of(10).evidence["ns"], "100");
    assert_eq!(of(9).cause, Cause::Unknown);
}

#[test]
fn waiting_for_a_cpu_is_preemption_or_throttling() {
    let of = |throttle| {
        diagnose(&PollEvidence {
            split: Some(Split {
                on_cpu_ns: 5_000_000,
                runnable_ns: 20_000_000,
                blocked_ns: 0,
            }),
            stacks: vec![on_cpu(&[], 5_000_000)],
            throttle,
            ..PollEvidence::default()
        })
    };
    let delta = |throttled_ns| ThrottleDelta {
        periods: 2,
        throttled_ns,
    };
    assert_eq!(of(None).cause, Cause::Preempted);
    assert_eq!(of(Some(delta(1_000_000))).cause, Cause::Preempted);
    assert_eq!(of(Some(delta(18_000_000))).cause, Cause::Throttled);
    assert_eq!(
        of(Some(delta(18_000_000))).evidence["throttled_periods"],
        "2"
    );
    assert_eq!(of(None).call.expect("a call").function, "app::helper");
}

#[test]
fn computing_is_cpu_unless_samples_find_the_kernel_at_work() {
    let of = |number: Option<i64>, object, page_fault, kernel_ns| {
        let mut in_kernel = on_cpu(&[], kernel_ns);
        in_kernel.syscall = number.map(|number| RawSyscall {
            number: u32::try_from(number).expect("a number"),
            args: [0; 6],
        });
        in_kernel.object = object;
        in_kernel.page_fault = page_fault;
        diagnose(&PollEvidence {
            split: Some(Split {
                on_cpu_ns: 10_000_000,
                ..Split::default()
            }),
            stacks: vec![on_cpu(&[], 10_000_000 - kernel_ns), in_kernel],
            ..PollEvidence::default()
        })
        .cause
    };
    assert_eq!(of(None, None, true, 4_000_000), Cause::Cpu);
    assert_eq!(of(None, None, true, 6_000_000), Cause::PageFault);
    let read = Some(libc::SYS_read);
    assert_eq!(of(read, file("/a"), false, 6_000_000), Cause::FileIo);
    assert_eq!(of(read, file("/a"), false, 4_000_000), Cause::Cpu);
    assert_eq!(
        of(Some(libc::SYS_sched_yield), None, false, 6_000_000),
        Cause::Spin
    );
    assert_eq!(
        of(Some(libc::SYS_futex), None, false, 6_000_000),
        Cause::Cpu
    );
}

#[test]
fn what_an_allocator_takes_back_is_a_drop() {
    let of = |name: &str, role| {
        let mut found = on_cpu(&[name], 5);
        found.stack.frames[0].role = role;
        diagnose(&PollEvidence {
            stacks: vec![found],
            ..PollEvidence::default()
        })
    };
    assert_eq!(
        of("_rjem_je_tcache_bin_flush_small", Role::Allocator).cause,
        Cause::Drop
    );
    assert_eq!(of("cfree", Role::C).cause, Cause::Drop);
    assert_eq!(of("malloc", Role::C).cause, Cause::Cpu);
    assert_eq!(of("core::ptr::drop_in_place", Role::Std).cause, Cause::Drop);
    let copy = of("__memmove_avx_unaligned_erms", Role::C);
    assert_eq!(
        (copy.cause, copy.evidence["copying"].as_str()),
        (Cause::Cpu, "true")
    );
    assert!(copy.advice.contains("copies"), "{}", copy.advice);
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
fn what_the_code_took_itself_is_not_excused() {
    let of = |on_cpu_ns| {
        diagnose(&PollEvidence {
            split: Some(Split {
                on_cpu_ns,
                runnable_ns: 67_000_000,
                blocked_ns: 0,
            }),
            stacks: vec![on_cpu(&[], on_cpu_ns)],
            ..PollEvidence::default()
        })
    };
    assert_eq!(of(30_000_000).cause, Cause::Preempted);
    let advice = of(30_000_000).advice;
    assert!(
        advice.starts_with("30 ms of it were the code's own, 30 ms of them computing: move"),
        "{advice}"
    );
    let advice = of(3_000_000).advice;
    assert!(!advice.contains("own"), "{advice}");
}

#[test]
fn samples_of_one_function_are_one_call() {
    let mut stacks = vec![on_cpu(&[], 4), on_cpu(&[], 4), on_cpu(&[], 5)];
    stacks[2].stack.frames[0].function = Some("app::other".to_owned());
    let found = diagnose(&PollEvidence {
        stacks,
        ..PollEvidence::default()
    });
    assert_eq!(found.cause, Cause::Cpu);
    assert_eq!(found.call.expect("a call").function, "app::helper");
}

#[test]
fn a_stripped_stack_blames_the_deepest_frame_that_says_where_it_is_from() {
    let nameless = |offset, definition: Option<&str>| Frame {
        module: Some("/opt/app".to_owned()),
        offset: Some(offset),
        async_body: definition.is_some(),
        role: definition.map_or(Role::Unknown, |_| Role::Own),
        definition: definition.map(|file| SourceLocation {
            file: file.to_owned(),
            line: 7,
            column: None,
        }),
        ..Frame::default()
    };
    let mut found = blocked(&[], libc::SYS_nanosleep, None, 1);
    found.stack.frames = vec![
        frame("clock_nanosleep", true),
        nameless(0x10, None),
        nameless(0x20, Some("src/a.rs")),
        nameless(0x30, Some("src/b.rs")),
    ];
    let call = diagnosis(found.clone()).call.expect("a call");
    assert_eq!(call.function, "app+0x20");
    assert_eq!(call.location.expect("a place").file, "src/a.rs");
    // A plain function inside the body, as its unwind information tells it apart.
    found.stack.frames[1].function_offset = Some(0x8);
    assert_eq!(diagnosis(found).call.expect("a call").function, "app+0x8");
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
fn nothing_known_is_unknown() {
    let found = diagnose(&PollEvidence::default());
    assert_eq!(found.cause, Cause::Unknown);
    assert_eq!(found.call, None);
}

/// A sample in a stripped file: nameless functions by their offsets, innermost first, then an async
/// body.
fn nameless(offsets: &[u64], ns: u64) -> StackEvidence {
    let mut found = on_cpu(&[], ns);
    let functions = offsets.iter().map(|offset| Frame {
        module: Some("/opt/app".to_owned()),
        function_offset: Some(*offset),
        ..Frame::default()
    });
    let body = Frame {
        module: Some("/opt/app".to_owned()),
        function_offset: Some(1),
        definition: Some(SourceLocation {
            file: "src/main.rs".to_owned(),
            line: 7,
            column: None,
        }),
        async_body: true,
        role: Role::Own,
        ..Frame::default()
    };
    found.stack.frames = functions.chain([body]).collect();
    found
}

fn called(stacks: Vec<StackEvidence>) -> Option<String> {
    let on_cpu_ns = stacks.iter().map(|found| found.stack.ns).sum();
    let found = diagnose(&PollEvidence {
        split: Some(Split {
            on_cpu_ns,
            ..Split::default()
        }),
        stacks,
        ..PollEvidence::default()
    });
    found.call.map(|call| call.function)
}

#[test]
fn samples_in_several_nameless_functions_blame_what_calls_them_all() {
    // An allocator's functions below one of the program's own.
    let stacks = vec![
        nameless(&[0x900, 0x400], 40),
        nameless(&[0x800, 0x850, 0x400], 35),
        nameless(&[0x400], 25),
    ];
    assert_eq!(called(stacks), Some("app+0x400".to_owned()));
    // One function that computes is blamed itself, a stray sample or not.
    let stacks = vec![nameless(&[0x900, 0x400], 95), nameless(&[0x400], 5)];
    assert_eq!(called(stacks), Some("app+0x900".to_owned()));
    // Where nothing is shared but the async body, it is the body.
    let stacks = vec![nameless(&[0x900], 50), nameless(&[0x800], 50)];
    assert_eq!(called(stacks), Some("app+0x1".to_owned()));
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

#[test]
fn what_others_took_is_not_the_codes_own() {
    let mut stopped = blocked(&[], 0, None, 30);
    stopped.halt = Some(Halt::Stopped { signal: Some(19) });
    let mut frozen = blocked(&[], 0, None, 20);
    frozen.halt = Some(Halt::Frozen);
    let slept = blocked(&["std::thread::sleep"], libc::SYS_nanosleep, None, 7);
    let mut yielded = blocked(&[], libc::SYS_sched_yield, None, 5);
    yielded.stack.kind = StackKind::Runnable;
    yielded.halt = Some(Halt::Yields);
    let found = diagnose(&PollEvidence {
        split: Some(Split {
            on_cpu_ns: 3,
            runnable_ns: 45,
            blocked_ns: 57,
        }),
        stacks: vec![stopped, frozen, slept, yielded],
        ..PollEvidence::default()
    });
    assert_eq!(found.own_ns, Some(3 + 7 + 5));
}

#[test]
fn where_a_walk_broke_off_a_function_of_which_nothing_is_known_is_not_to_blame() {
    let call = |outcome, frames: Vec<Frame>| {
        let mut found = on_cpu(&[], 9);
        found.stack.frames = frames;
        found.stack.outcome = outcome;
        diagnose(&PollEvidence {
            split: Some(Split {
                on_cpu_ns: 9,
                ..Split::default()
            }),
            stacks: vec![found],
            ..PollEvidence::default()
        })
        .call
    };
    let assembly = Frame {
        module: Some("/opt/app".to_owned()),
        function_offset: Some(0x1230),
        ..Frame::default()
    };
    for outcome in [Outcome::NoUnwindInfo, Outcome::Truncated] {
        assert_eq!(call(outcome, vec![assembly.clone()]), None);
    }
    // On a stack that is not the thread's, the walk ends where that begins.
    let own = call(Outcome::OtherStack, vec![assembly.clone()]);
    assert_eq!(own.expect("a call").function, "app+0x1230");
    let named = frame("app::helper", false);
    let known = call(Outcome::NoUnwindInfo, vec![assembly, named]);
    assert_eq!(known.expect("a call").function, "app::helper");
}
