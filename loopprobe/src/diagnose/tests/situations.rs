//! Waits of libraries and of the kernel that look like something else.

use super::*;

/// A stack with these arguments of its system call.
fn call(inner: &[&str], number: i64, args: [u64; 6]) -> StackEvidence {
    let mut found = blocked(inner, number, None, 20_000_000);
    found.syscall = found.syscall.map(|call| RawSyscall { args, ..call });
    found
}

/// The same of a thread on its CPU.
fn working(inner: &[&str], number: i64) -> StackEvidence {
    let mut found = call(inner, number, [1; 6]);
    found.stack.kind = StackKind::OnCpu;
    found
}

fn computed(found: StackEvidence) -> crate::model::Diagnosis {
    diagnose(&PollEvidence {
        stacks: vec![found],
        ..PollEvidence::default()
    })
}

#[test]
fn a_thread_that_is_started_is_no_process() {
    const CLONE_THREAD: u64 = 0x1_0000;
    let spawn = "std::thread::lifecycle::spawn_unchecked";
    let thread = diagnosis(call(&["clone3", spawn], libc::SYS_clone3, [1; 6]));
    assert_eq!(thread.cause, Cause::Unknown);
    assert!(thread.advice.starts_with("starting threads"), "{thread:?}");
    let thread = computed(working(
        &["__clone3", "pthread_create@@GLIBC_2.34"],
        libc::SYS_clone3,
    ));
    assert_eq!(thread.cause, Cause::Cpu);
    assert!(thread.advice.starts_with("starting threads"), "{thread:?}");
    let thread = diagnosis(call(&["__clone"], libc::SYS_clone, [CLONE_THREAD; 6]));
    assert_eq!(thread.cause, Cause::Unknown);
    for inner in ["__spawnix", "std::sys::process::unix::unix::Command::spawn"] {
        let process = diagnosis(call(&["clone3", inner], libc::SYS_clone3, [1; 6]));
        assert_eq!(process.cause, Cause::Child, "{inner}");
        assert!(process.advice.starts_with("starting a process"));
    }
    // A lock below a start is no join.
    let lock = diagnosis(call(&["syscall", spawn], libc::SYS_futex, [1; 6]));
    assert!(!lock.evidence.contains_key("wait"), "{lock:?}");
}

#[test]
fn a_library_that_spins_before_it_sleeps_is_not_the_programs_spinning() {
    for (inner, cause) in [
        ("crossbeam_channel::channel::Sender::send", Cause::Channel),
        (
            "rayon_core::registry::WorkerThread::wait_until_cold",
            Cause::ThreadWait,
        ),
        ("app::wait_for_flag", Cause::Spin),
    ] {
        let inner = &["__sched_yield", inner][..];
        let mut found = call(inner, libc::SYS_sched_yield, [0; 6]);
        found.stack.kind = StackKind::OnCpu;
        assert_eq!(computed(found).cause, cause, "{inner:?}");
    }
    let mut found = on_cpu(&["crossbeam_channel::channel::Sender::send"], 5);
    found.spins = true;
    assert_eq!(computed(found).cause, Cause::Channel);
}

#[test]
fn a_wait_with_a_limit_that_nobody_ended_may_be_for_time_alone() {
    const TIMED: [u64; 6] = [1, 128 | 9, 0, 0x7000, 0, u32::MAX as u64];
    let of = |inner: &str, args| call(&["syscall", inner], libc::SYS_futex, args);
    for (inner, cause) in [
        ("std::thread::park_timeout", Cause::ThreadWait),
        ("std::sync::mpmc::list::Channel::recv", Cause::Channel),
    ] {
        let mut found = of(inner, TIMED);
        let timed = diagnosis(found.clone());
        assert_eq!(timed.cause, cause);
        assert!(timed.advice.starts_with("this wait has a time limit"));
        found.waker = Some(Waker {
            tid: 7,
            name: "producer".to_owned(),
            frames: Vec::new(),
            looped_ns: 0,
            work: None,
        });
        let woken = diagnosis(found);
        assert!(!woken.advice.contains("time limit"), "{woken:?}");
        let mut forever = TIMED;
        forever[3] = 0;
        let forever = diagnosis(of(inner, forever));
        assert!(!forever.advice.contains("time limit"), "{forever:?}");
    }
}

#[test]
fn a_commit_that_waits_for_the_disk_waits_for_no_other_connection() {
    let of = |number| {
        diagnose(&PollEvidence {
            stacks: vec![blocked(
                &["fsync", "unixSync", "sqlite3_step"],
                number,
                file("/var/a.db-journal"),
                20_000_000,
            )],
            databases: vec![Database {
                path: "/var/a.db".to_owned(),
                holders: vec!["importer (812)".to_owned()],
            }],
            ..PollEvidence::default()
        })
    };
    let commit = of(libc::SYS_fsync);
    assert_eq!(commit.cause, Cause::Database);
    assert!(!commit.evidence.contains_key("holder"), "{commit:?}");
    assert!(commit.advice.starts_with("each commit waits"), "{commit:?}");
    let read = of(libc::SYS_pread64);
    assert!(!read.advice.contains("other connections"), "{read:?}");
    let nap = of(libc::SYS_clock_nanosleep);
    assert_eq!(nap.evidence["holder"], "importer (812)");
    assert!(nap.advice.contains("other connections"), "{nap:?}");
}

#[test]
fn who_writes_to_a_child_is_not_told_to_await_its_output() {
    let writes = |fd, child, inner: &[&str]| {
        let mut found = blocked(inner, libc::SYS_write, pipe(fd, child), 20_000_000);
        let waits = diagnosis(found.clone());
        if child {
            assert_eq!(waits.cause, Cause::Child);
            found.stack.kind = StackKind::OnCpu;
            assert_eq!(computed(found).advice, waits.advice);
        }
        waits.advice
    };
    let stdin = "std::process::ChildStdin::write";
    for inner in [&["write", stdin][..], &["write"]] {
        let advice = writes(9, true, inner);
        assert!(advice.starts_with("the child does not read"), "{advice}");
    }
    let printed = writes(1, false, &["write"]);
    assert!(printed.contains("every task that prints"), "{printed}");
    let other = writes(9, false, &["write"]);
    assert!(other.contains("tokio::net::unix::pipe"), "{other}");
    // What comes from a child in large pieces is computed with below its functions, too.
    let output = computed(on_cpu(&["memcpy", "std::process::Command::output"], 5));
    assert!(
        output.advice.starts_with("use tokio::process"),
        "{output:?}"
    );
}

#[test]
fn a_terminal_that_is_read_has_nobody_who_does_not_keep_up() {
    let terminal = Some(Object::Terminal {
        fd: 0,
        path: "/dev/pts/3".to_owned(),
    });
    let found = diagnosis(blocked(&["read"], libc::SYS_read, terminal, 20_000_000));
    assert_eq!(found.cause, Cause::Pipe);
    assert!(found.advice.starts_with("nothing came"), "{found:?}");
}

#[test]
fn whose_nap_it_is_must_be_known_before_the_standard_library_is_named() {
    let nap = |inner: &[&str]| diagnosis(call(inner, libc::SYS_clock_nanosleep, [0; 6])).advice;
    let std = nap(&["clock_nanosleep", "std::thread::functions::sleep"]);
    assert!(std.ends_with("instead of std::thread::sleep"), "{std}");
    let unknown = nap(&["clock_nanosleep"]);
    assert!(unknown.contains("if a library naps here"), "{unknown}");
}

#[test]
fn making_log_lines_is_no_work_for_rayon() {
    let mut found = on_cpu(
        &["core::fmt::write", "tracing_core::event::Event::dispatch"],
        5,
    );
    found.stack.frames[1].role = Role::Logging;
    let found = computed(found);
    assert_eq!(found.cause, Cause::Cpu);
    assert!(found.advice.starts_with("making log lines"), "{found:?}");
}

#[test]
fn tokios_blocking_functions_are_not_all_block_on() {
    let advice = |inner: &str| diagnosis(call(&["syscall", inner], libc::SYS_futex, [1; 6])).advice;
    let tokio = advice("tokio::runtime::park::CachedParkThread::park");
    assert!(tokio.contains("blocking_recv"), "{tokio}");
    let futures = advice("futures_executor::local_pool::block_on");
    assert!(!futures.contains("blocking_recv"), "{futures}");
}

#[test]
fn a_file_below_the_standard_librarys_inner_functions_is_one() {
    let copy = computed(working(
        &["copy_file_range", "std::sys::fs::copy"],
        libc::SYS_copy_file_range,
    ));
    assert_eq!(copy.cause, Cause::FileIo);
}
