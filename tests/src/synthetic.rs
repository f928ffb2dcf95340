//! Sessions made by hand: what views are tested with, beside real ones.

use std::collections::BTreeMap;

use loopprobe::model::{
    Blocked, Cause, Diagnosis, Event, Frame, LongPoll, Lost, NameSource, Outcome, ProbeCost,
    Session, SourceLocation, Split, Stack, StackKind, Summary, TaskKind, TaskSummary, TaskType,
};

const MS: u64 = 1_000_000;
/// When the sessions begin (`CLOCK_MONOTONIC`).
pub const START: u64 = 5_000_000_000;

/// The head of a session of the program `name`.
pub fn head(name: &str) -> Event {
    Event::Session(Session {
        schema: Session::SCHEMA,
        version: "0.1.0".to_owned(),
        pid: 1234,
        name: name.to_owned(),
        placement: loopprobe::model::Placement::default(),
        start_ns: START,
        start_unix_ns: 1_700_000_000_000_000_000,
        threshold_ns: 10 * MS,
        mode: Some(loopprobe::model::Mode::Exact),
        sites: 12,
        task_types: 6,
        tokio: vec!["1.44.2".to_owned()],
        runtimes: Vec::new(),
        limits: vec!["the root future is not covered".to_owned()],
    })
}

/// The end of a session with `polls`.
pub fn end(polls: &[LongPoll]) -> Event {
    let durations = || polls.iter().map(|poll| poll.duration_ns);
    Event::Summary(Summary {
        reason: "interrupted".to_owned(),
        duration_ns: 30_000 * MS,
        polls: Some(2_184_332),
        blocking_polls: Some(3),
        p50_ns: Some(3_100),
        p99_ns: Some(212_000),
        max_ns: durations().max(),
        long_polls: polls.len() as u64,
        long_ns: durations().sum(),
        possible_long_polls: None,
        looks: None,
        worker_ns: Some(durations().sum()),
        workers: Some(4),
        outside_runtime: 0,
        outside_runtime_ns: 0,
        lost: Some(Lost {
            events: 7,
            ..Lost::default()
        }),
        cost: Some(ProbeCost {
            ns_per_poll: 900.0,
            total_ns: 1_965_898_800,
            probes_ns: 1_600_000_000,
            scheduler_ns: 300_000_000,
            stacks_ns: 50_000_000,
            samples_ns: 15_898_800,
            dead_start_ns: 1_700,
            dead_end_ns: 4_300,
        }),
        canary: None,
        coverage: None,
        budget: None,
        wake_to_poll: None,
        tasks: vec![TaskSummary {
            task: task("api::upload::handle", 42),
            polls: Some(2_184_332),
            total_ns: Some(20_000 * MS),
            p50_ns: Some(3_100),
            p99_ns: Some(212_000),
            max_ns: durations().max().unwrap_or(0),
            long: polls.len() as u64,
            wake_to_poll: None,
        }],
        groups: Vec::new(),
        findings: Vec::new(),
        no_polls: None,
        threads: Vec::new(),
    })
}

/// An async task type defined in `src/<last module>.rs`.
pub fn task(name: &str, line: u32) -> TaskType {
    let module = name.rsplit("::").nth(1).unwrap_or("main");
    TaskType {
        name: name.to_owned(),
        full_name: None,
        name_source: NameSource::V0,
        certain: true,
        kind: TaskKind::Async,
        location: Some(place(&format!("src/{module}.rs"), line)),
        krate: None,
    }
}

/// A line of a file.
pub fn place(file: &str, line: u32) -> SourceLocation {
    SourceLocation {
        file: file.to_owned(),
        line,
        column: None,
    }
}

/// A stack of functions, innermost first.
pub fn stack(kind: StackKind, start_ns: u64, ns: u64, syscall: &str, functions: &[&str]) -> Stack {
    let frame = |name: &&str| Frame {
        function: Some((*name).to_owned()),
        location: Some(place(file_of(name), 57)),
        module: Some("/usr/bin/api".to_owned()),
        offset: Some(0x4000 + name.len() as u64),
        runtime: name.starts_with("tokio::") || name.starts_with("std::"),
        ..Frame::default()
    };
    Stack {
        ns,
        start_ns,
        kind,
        outcome: Outcome::Complete,
        syscall: (!syscall.is_empty()).then(|| syscall.to_owned()),
        frames: functions.iter().map(frame).collect(),
    }
}

fn file_of(function: &str) -> &'static str {
    match function.split("::").next() {
        Some("std") => "/rustc/0123456789abcdef/library/std/src/fs.rs",
        Some("tokio") => "/home/a/.cargo/registry/src/index/tokio-1.44.2/src/runtime/task/raw.rs",
        Some("hyper") => "/home/a/.cargo/registry/src/index/hyper-1.6.0/src/body.rs",
        _ => "src/upload.rs",
    }
}

/// A poll whose time is split, without stacks yet.
pub fn poll(task: TaskType, tid: u32, start_ns: u64, split: Split) -> LongPoll {
    LongPoll {
        pid: 1234,
        tid,
        thread: "tokio-rt-worker".to_owned(),
        task_id: Some(start_ns % 1000),
        task,
        start_ns,
        duration_ns: split.on_cpu_ns + split.runnable_ns + split.blocked_ns,
        bounds: None,
        ended: true,
        since_before_attach: false,
        block_in_place: false,
        split: Some(split),
        diagnosis: None,
        stacks: Vec::new(),
    }
}

fn diagnosis(cause: Cause, call: &str, syscall: &str, advice: &str) -> Diagnosis {
    let mut evidence = BTreeMap::new();
    if !syscall.is_empty() {
        evidence.insert("syscall".to_owned(), syscall.to_owned());
    }
    Diagnosis {
        cause,
        call: Some(Blocked {
            function: call.to_owned(),
            location: Some(place("src/upload.rs", 57)),
        }),
        innermost: None,
        evidence,
        advice: advice.to_owned(),
        own_ns: None,
    }
}

/// A poll that read a file: blocked for `ms` but for a millisecond each of computing and waiting
/// for a CPU.
pub fn file_read(tid: u32, start_ns: u64, ms: u64) -> LongPoll {
    let blocked_ns = (ms - 2) * MS;
    let split = Split {
        on_cpu_ns: MS,
        runnable_ns: MS,
        blocked_ns,
    };
    let mut poll = poll(task("api::upload::handle", 42), tid, start_ns, split);
    let functions = [
        "std::fs::read",
        "api::upload::store",
        "hyper::body::drive",
        "tokio::runtime::task::raw::poll",
    ];
    let began = start_ns + MS;
    poll.stacks = vec![stack(
        StackKind::Blocked,
        began,
        blocked_ns,
        "read",
        &functions,
    )];
    poll.diagnosis = Some(diagnosis(
        Cause::FileIo,
        "api::upload::store",
        "read",
        "use tokio::fs, or move the call into tokio::task::spawn_blocking",
    ));
    poll
}

/// A poll that computed for `ms`, with samples of two functions, two to one.
pub fn computing(tid: u32, start_ns: u64, ms: u64) -> LongPoll {
    let split = Split {
        on_cpu_ns: ms * MS,
        ..Split::default()
    };
    let mut poll = poll(task("api::search::query", 12), tid, start_ns, split);
    let of = |name| [name, "api::search::rank", "tokio::runtime::task::raw::poll"];
    poll.stacks = vec![
        stack(
            StackKind::OnCpu,
            start_ns,
            2_004_008,
            "",
            &of("api::search::score"),
        ),
        stack(
            StackKind::OnCpu,
            start_ns,
            1_002_004,
            "",
            &of("api::search::sort"),
        ),
    ];
    poll.diagnosis = Some(diagnosis(
        Cause::Cpu,
        "api::search::score",
        "",
        "move the computation to spawn_blocking, or yield within it",
    ));
    poll
}

/// `count` polls over four workers, alternately reading files and computing, and one without any
/// stack.
pub fn polls(count: u64) -> Vec<LongPoll> {
    let mut polls: Vec<_> = (0..count)
        .map(|i| {
            let (tid, start) = (100 + (i % 4) as u32, START + (1 + i) * 400 * MS);
            match i % 2 {
                0 => file_read(tid, start, 30 + i % 50),
                _ => computing(tid, start, 15 + i % 70),
            }
        })
        .collect();
    let split = Split {
        on_cpu_ns: 0,
        runnable_ns: 12 * MS + 345,
        blocked_ns: MS + 1,
    };
    polls.push(poll(
        task("api::main::{async block}", 9),
        101,
        START + 7,
        split,
    ));
    polls
}

/// How long the threads of `polls` were blocked in reads of files.
pub fn file_reads_ns(polls: &[LongPoll]) -> u64 {
    let is_read = |poll: &&LongPoll| poll.task.name == "api::upload::handle";
    let blocked = |poll: &LongPoll| poll.split.map_or(0, |split| split.blocked_ns);
    polls.iter().filter(is_read).map(blocked).sum()
}

/// A whole session around `polls`.
pub fn session(polls: &[LongPoll]) -> Vec<Event> {
    let mut events = vec![head("api-server")];
    events.extend(polls.iter().cloned().map(Event::LongPoll));
    events.push(end(polls));
    events
}
