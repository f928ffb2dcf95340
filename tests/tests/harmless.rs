//! The target is never harmed, and nothing is left in the kernel: the target's own counters, its
//! text compared with its file, and the kernel's lists of eBPF objects say so.
//!
//! `LOOPPROBE_CYCLES` sets how often loopprobe attaches in the first test; docs/safety.md has the
//! figures of 200.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use loopprobe_tests::leftovers::Objects;
use loopprobe_tests::matrix::{Build, loopprobe, target};
use loopprobe_tests::scenario::gated;
use loopprobe_tests::session::Session;
use loopprobe_tests::share_machine;
use loopprobe_tests::target::{Target, wait};
use loopprobe_tests::text::{changed_bytes, until_clean};

/// How often loopprobe attaches and detaches, unless told otherwise.
const CYCLES: u32 = 20;
/// How often loopprobe is killed.
const KILLS: u32 = 20;

/// Some 20,000 polls a second, on both threads.
fn busy() -> Result<Target> {
    let path = target(Build::DEFAULT, "busy")?;
    let target = Target::start(&path, &["--millis", "280000", "--rounds", "20000"])?;
    ensure!(
        changed_bytes(target.pid())? == 0,
        "the text is changed before anything happened"
    );
    Ok(target)
}

/// By the target's own count.
fn still_polls(target: &mut Target) -> Result<()> {
    ensure!(target.is_alive()?, "the target died");
    // What it has said meanwhile is old.
    for _ in 0..2 {
        let said = target.until("rate", Duration::from_secs(20))?;
        let rate = said
            .last()
            .and_then(|line| line["polls_per_second"].as_u64());
        ensure!(rate > Some(0), "it polls no more: {said:?}");
    }
    Ok(())
}

#[test]
fn many_attaches_and_detaches_leave_nothing() -> Result<()> {
    share_machine!();
    let cycles = match std::env::var("LOOPPROBE_CYCLES") {
        Ok(cycles) => cycles.parse().context("LOOPPROBE_CYCLES")?,
        Err(_) => CYCLES,
    };
    let mut target = busy()?;
    let before = Objects::now()?;
    let start = Instant::now();
    for cycle in 0..cycles {
        let session = Session::attach(target.pid(), &["--threshold", "1ms"])?;
        if cycle == 0 {
            ensure!(
                Objects::now()?.new_since(&before) > 10 && changed_bytes(target.pid())? > 0,
                "nothing is attached: this check could not fail"
            );
        }
        let report = session.interrupt()?;
        ensure!(report.status.success(), "cycle {cycle}: {}", report.errors);
        ensure!(
            changed_bytes(target.pid())? == 0,
            "probes are left in the text after cycle {cycle}"
        );
    }
    eprintln!("{cycles} cycles took {:?}", start.elapsed());
    still_polls(&mut target)?;
    Objects::are_gone_since(&before)
}

#[test]
fn kills_at_any_moment_leave_nothing() -> Result<()> {
    share_machine!();
    let mut target = busy()?;
    let before = Objects::now()?;
    let pid = target.pid().to_string();
    let start = Instant::now();
    Session::attach(target.pid(), &[])?.interrupt()?;
    // Twice what an attach and its end take here: some of the kills come before its end and some
    // after.
    let within = 2 * start.elapsed();
    let mut attached = 0;
    for kill in 0..KILLS {
        let mut child = Command::new(loopprobe()?)
            .args([
                "attach",
                "--pid",
                &pid,
                "--threshold",
                "0",
                "--format",
                "json",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        // Every part of the attach and of the session gets its turn, in an order without pattern.
        std::thread::sleep(within * (kill * 7 % KILLS) / KILLS);
        attached += u32::from(changed_bytes(target.pid())? > 0);
        child.kill()?;
        child.wait()?;
        until_clean(target.pid())?;
        ensure!(target.is_alive()?, "the target died");
    }
    ensure!(
        (1..KILLS).contains(&attached),
        "{attached} of {KILLS} kills came when probes were in place: not at every moment"
    );
    still_polls(&mut target)?;
    Objects::are_gone_since(&before)
}

#[test]
fn signals_are_handled_while_polls_are_timed() -> Result<()> {
    share_machine!();
    let path = target(Build::DEFAULT, "signals")?;
    let mut target = Target::start(&path, &["--rounds", "1000", "--gate", "before", "--hold"])?;
    let before = Objects::now()?;
    let session = Session::attach(target.pid(), &["--threshold", "500us"])?;
    target.send("go")?;
    let said = target.until("counters", Duration::from_mins(1))?;
    let counters = &said[said.len() - 1];
    let report = session.interrupt()?;
    ensure!(
        counters["raised"] == 4_000 && counters["handled"] == 4_000,
        "signals were lost: {counters}"
    );
    ensure!(
        counters["timer"].as_u64() > Some(500),
        "the timer stood still: {counters}"
    );
    let lost = report.summary.lost.context("the loss is known")?;
    ensure!(
        lost.unmatched_starts == 0 && lost.unmatched_ends == 0,
        "{lost:?}"
    );
    ensure!(
        report.summary.long_polls >= 4_000,
        "polls of a millisecond are missing: {:?}",
        report.summary
    );
    ensure!(target.is_alive()?, "the target died");
    ensure!(changed_bytes(target.pid())? == 0, "probes are left");
    Objects::are_gone_since(&before)
}

#[test]
fn a_library_that_is_loaded_and_unloaded_over_and_over_is_survived() -> Result<()> {
    share_machine!();
    let library = target(Build::DEFAULT, "libplugin.so")?;
    let path = target(Build::DEFAULT, "reloader")?;
    let mut command = Command::new(path);
    command.args(["--rounds", "40", "--gate", "before", "--hold"]);
    let mut target = Target::spawn(command.env("PLUGIN", library))?;
    let before = Objects::now()?;
    let session = Session::attach(target.pid(), &[])?;
    target.send("go")?;
    let said = target.until("counters", Duration::from_mins(1))?;
    let counters = &said[said.len() - 1];
    let report = session.interrupt()?;
    ensure!(
        counters["rounds"] == 40 && counters["gone"].as_u64() > Some(30),
        "the library was not unloaded: {counters}"
    );
    ensure!(
        report.summary.long_polls > 0,
        "the library's polls were never seen: {:?}",
        report.notices
    );
    ensure!(target.is_alive()?, "the target died");
    ensure!(changed_bytes(target.pid())? == 0, "probes are left");
    Objects::are_gone_since(&before)
}

#[test]
fn a_target_that_is_killed_in_the_middle_of_a_poll_leaves_nothing() -> Result<()> {
    share_machine!();
    let path = target(Build::DEFAULT, "busy")?;
    // Each poll blocks for 3 s.
    let target = Target::start(
        &path,
        &["block", "--millis", "60000", "--rounds", "3000000"],
    )?;
    let before = Objects::now()?;
    let mut session = Session::attach(target.pid(), &[])?;
    let open = session.next_poll(Duration::from_secs(10))?;
    ensure!(!open.ended, "it has ended: {open:?}");
    drop(target);
    let report = session.finish()?;
    ensure!(report.status.success(), "{}", report.errors);
    ensure!(
        report.summary.reason.contains("ended"),
        "{}",
        report.summary.reason
    );
    Objects::are_gone_since(&before)
}

/// Stops a process as job control does, and lets it go on when dropped.
struct Stopped(i32);

impl Stopped {
    fn new(pid: u32) -> Self {
        // SAFETY: the pid is that of a target that this test has started and still holds.
        unsafe { libc::kill(pid as i32, libc::SIGSTOP) };
        Stopped(pid as i32)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { libc::kill(self.0, libc::SIGCONT) };
    }
}

#[test]
fn a_target_that_is_stopped_is_attached_to_and_detached_from() -> Result<()> {
    share_machine!();
    let mut target = busy()?;
    let before = Objects::now()?;
    let stopped = Stopped::new(target.pid());
    let session = Session::attach(target.pid(), &[])?;
    ensure!(changed_bytes(target.pid())? > 0, "no probe is in the text");
    drop(stopped);
    std::thread::sleep(Duration::from_millis(300));
    let stopped = Stopped::new(target.pid());
    let report = session.interrupt()?;
    ensure!(
        report.summary.polls > Some(0),
        "nothing was seen in between"
    );
    ensure!(changed_bytes(target.pid())? == 0, "probes are left");
    drop(stopped);
    still_polls(&mut target)?;
    Objects::are_gone_since(&before)
}

/// A debugger's hold on a thread; let go when dropped. The target's child of this process, and the
/// calls must come from the thread that attached.
struct Traced(i32);

impl Traced {
    fn new(pid: u32) -> Result<Self> {
        let pid = pid as i32;
        let none = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: attaching takes no memory; the target is a child that this test has started.
        let result = unsafe { libc::ptrace(libc::PTRACE_ATTACH, pid, none, none) };
        ensure!(result == 0, "ptrace: {}", std::io::Error::last_os_error());
        let mut status = 0;
        // SAFETY: a live integer for the status.
        let waited = unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) };
        ensure!(waited == pid && libc::WIFSTOPPED(status), "it did not stop");
        Ok(Traced(pid))
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        let none = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: as in `new`; the last argument is the signal to deliver, none.
        unsafe { libc::ptrace(libc::PTRACE_DETACH, self.0, none, none) };
    }
}

#[test]
fn a_debugger_on_the_target_is_not_disturbed() -> Result<()> {
    share_machine!();
    let mut target = busy()?;
    let before = Objects::now()?;
    let traced = Traced::new(target.pid())?;
    let session = Session::attach(target.pid(), &[])?;
    drop(traced);
    std::thread::sleep(Duration::from_millis(300));
    let traced = Traced::new(target.pid())?;
    let report = session.interrupt()?;
    drop(traced);
    ensure!(
        report.summary.polls > Some(0),
        "nothing was seen in between"
    );
    ensure!(changed_bytes(target.pid())? == 0, "probes are left");
    still_polls(&mut target)?;
    Objects::are_gone_since(&before)
}

#[test]
fn two_sessions_on_one_target_count_the_same() -> Result<()> {
    share_machine!();
    let mut target = gated(Build::DEFAULT, "truth", &["sleep"])?;
    let before = Objects::now()?;
    let first = Session::attach(target.pid(), &[])?;
    let second = Session::attach(target.pid(), &[])?;
    let start = second.head.start_ns;
    let truth = target.work()?;
    let polls = truth
        .iter()
        .filter(|poll| poll.kind == "async" && poll.start_ns >= start)
        .count() as u64;
    let first = first.interrupt()?;
    ensure!(
        changed_bytes(target.pid())? > 0,
        "the first one's end took the second one's probes away"
    );
    let second = second.interrupt()?;
    ensure!(
        (first.summary.polls, second.summary.polls) == (Some(polls), Some(polls)),
        "{polls} polls, {:?} and {:?} counted",
        first.summary.polls,
        second.summary.polls
    );
    ensure!(first.ended().len() == second.ended().len());
    ensure!(changed_bytes(target.pid())? == 0, "probes are left");
    Objects::are_gone_since(&before)
}

#[test]
fn forks_and_executed_programs_leave_nothing() -> Result<()> {
    share_machine!();
    // The next program is `truth` beside it.
    target(Build::DEFAULT, "truth")?;
    let path = target(Build::DEFAULT, "fork_exec")?;
    for scenario in ["fork", "exec"] {
        let mut target = Target::start(&path, &[scenario, "--gate", "before"])?;
        let before = Objects::now()?;
        let session = Session::attach(target.pid(), &[])?;
        target.send("go")?;
        let report = session.finish()?;
        ensure!(report.status.success(), "{scenario}: {}", report.errors);
        ensure!(target.wait()?.success(), "{scenario}: the target failed");
        Objects::are_gone_since(&before)?;
    }
    Ok(())
}

#[test]
fn a_session_that_is_interrupted_while_it_attaches_leaves_nothing() -> Result<()> {
    share_machine!();
    let mut target = busy()?;
    let before = Objects::now()?;
    for millis in [20, 100, 250, 500] {
        let mut child = Command::new(loopprobe()?)
            .args(["attach", "--pid", &target.pid().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        std::thread::sleep(Duration::from_millis(millis));
        // SAFETY: the pid is our own child's, which has not been waited for.
        unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
        wait(&mut child, Duration::from_secs(30))?;
        ensure!(changed_bytes(target.pid())? == 0, "probes are left");
    }
    still_polls(&mut target)?;
    Objects::are_gone_since(&before)
}
