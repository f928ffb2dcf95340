use crate::model::Cause;

/// One row of the table of causes.
#[derive(Clone, Copy, Debug)]
pub struct CauseInfo {
    /// The cause.
    pub cause: Cause,
    /// What people call it.
    pub title: &'static str,
    /// How it is recognised.
    pub recognised: &'static str,
    /// What to do, in one line.
    pub advice: &'static str,
}

/// Every cause, in the order of the documentation. `docs/causes.md` shows this table; a test keeps them equal.
pub const CAUSES: &[CauseInfo] = &[
    CauseInfo {
        cause: Cause::Cpu,
        title: "CPU-bound",
        recognised: "most of the poll was spent on a CPU, in the task's own code or in system calls of other kinds",
        advice: "move the computation to tokio::task::spawn_blocking or a thread pool such as rayon, or split it with tokio::task::yield_now().await",
    },
    CauseInfo {
        cause: Cause::Sleep,
        title: "sleep",
        recognised: "blocked in nanosleep, clock_nanosleep or pause",
        advice: "use tokio::time::sleep(..).await instead of std::thread::sleep",
    },
    CauseInfo {
        cause: Cause::FileIo,
        title: "file I/O",
        recognised: "in a system call on a file, a folder, a path or a pipe, blocked or on the CPU",
        advice: "use tokio::fs, or move the call into tokio::task::spawn_blocking",
    },
    CauseInfo {
        cause: Cause::Fsync,
        title: "fsync",
        recognised: "in fsync, fdatasync, sync, syncfs, sync_file_range or msync, blocked or on the CPU",
        advice: "call sync_all or sync_data of tokio::fs::File, or flush in tokio::task::spawn_blocking",
    },
    CauseInfo {
        cause: Cause::Network,
        title: "synchronous network I/O",
        recognised: "in connect, accept, send or recv, or reading, writing or polling a socket, blocked or on the CPU",
        advice: "use tokio::net or an async client, or move the client into tokio::task::spawn_blocking",
    },
    CauseInfo {
        cause: Cause::Dns,
        title: "DNS",
        recognised: "blocked below getaddrinfo or a relative of it, or on a socket of a name server (port 53, nscd, systemd-resolved)",
        advice: "use tokio::net::lookup_host, which resolves on the blocking pool, or an async resolver",
    },
    CauseInfo {
        cause: Cause::Lock,
        title: "lock contention",
        recognised: "blocked in futex (mutex, rwlock, condition variable, channel, thread join), flock or a waiting fcntl",
        advice: "hold the lock for less time and never across .await; use tokio::sync where the wait can be long, or wait in tokio::task::spawn_blocking",
    },
    CauseInfo {
        cause: Cause::Child,
        title: "child process",
        recognised: "blocked in wait4, waitid, vfork or clone, or on a pipe below std::process",
        advice: "use tokio::process::Command and await its output or status",
    },
    CauseInfo {
        cause: Cause::PageFault,
        title: "page faults",
        recognised: "in the kernel without a system call, blocked or on the CPU",
        advice: "read or prefault the memory (mmap, large allocation) in tokio::task::spawn_blocking before tasks use it",
    },
    CauseInfo {
        cause: Cause::Preempted,
        title: "preempted",
        recognised: "most of the poll was spent ready to run, waiting for a CPU",
        advice: "not this code's fault: other threads had the CPU; use fewer worker threads than CPUs, or move the neighbours away",
    },
    CauseInfo {
        cause: Cause::Throttled,
        title: "throttled",
        recognised: "as preempted, while the control group's CPU quota was used up (nr_throttled in cpu.stat)",
        advice: "not this code's fault: raise the control group's CPU quota (cpu.max), or use fewer worker threads",
    },
    CauseInfo {
        cause: Cause::NestedBlockOn,
        title: "nested block_on",
        recognised: "blocked in the parking of another event loop: block_on of Tokio, futures or pollster, or epoll_wait inside a poll",
        advice: "await the future instead of block_on, or run it in tokio::task::spawn_blocking",
    },
    CauseInfo {
        cause: Cause::Unknown,
        title: "unknown",
        recognised: "none of the others explains the largest part",
        advice: "look at the stacks; a higher --sample-hz or a lower --min-block shows more of them",
    },
];

impl Cause {
    /// The cause's row in the table.
    pub fn info(self) -> &'static CauseInfo {
        // The last row is `Unknown`; a test keeps the table complete.
        CAUSES
            .iter()
            .find(|row| row.cause == self)
            .unwrap_or(&CAUSES[CAUSES.len() - 1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Cause; 13] = [
        Cause::Cpu,
        Cause::Sleep,
        Cause::FileIo,
        Cause::Fsync,
        Cause::Network,
        Cause::Dns,
        Cause::Lock,
        Cause::Child,
        Cause::PageFault,
        Cause::Preempted,
        Cause::Throttled,
        Cause::NestedBlockOn,
        Cause::Unknown,
    ];

    #[test]
    fn every_cause_has_its_row() {
        for cause in ALL {
            assert_eq!(cause.info().cause, cause);
        }
        assert_eq!(CAUSES.len(), ALL.len());
    }

    #[test]
    fn the_documentation_shows_this_table() {
        let documentation = include_str!("../../../docs/causes.md");
        let table: String = CAUSES
            .iter()
            .map(|row| {
                let name = serde_json::to_string(&row.cause).expect("a cause");
                format!(
                    "| `{}` | {} | {} | {} |\n",
                    name.trim_matches('"'),
                    row.title,
                    row.recognised,
                    row.advice
                )
            })
            .collect();
        assert!(
            documentation.contains(&table),
            "docs/causes.md must contain:\n{table}"
        );
    }
}
