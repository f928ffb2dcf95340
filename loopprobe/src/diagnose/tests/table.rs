//! One stack for each way to block, and the cause it must have.

use super::*;

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
fn nothing_known_is_unknown() {
    let found = diagnose(&PollEvidence::default());
    assert_eq!(found.cause, Cause::Unknown);
    assert_eq!(found.call, None);
}
