//! Commands that come to a process a second time.

use std::{collections::BTreeSet, fs, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use loopprobe_tests::{
    folder::Folder,
    matrix::{self, Build},
    privileges::place,
    session::Session,
    share_machine,
    target::Target,
};

use crate::{Cache, SETTLED, USED};

#[test]
fn a_second_session_has_the_same_head_and_names() -> Result<()> {
    share_machine!();
    let cache = Cache::new()?;
    let program = matrix::target(Build::DEFAULT.stripped(), "busy")?;
    let mut target = Target::start(
        &program,
        &["block", "--millis", "120000", "--rounds", "30000"],
    )?;
    let session = |args: &[&str]| -> Result<_> {
        let mut command = cache.command()?;
        command.args(["attach", "--pid", &target.pid().to_string()]);
        command.args(["--format", "json", "--log-level", "debug"]);
        let mut session = Session::spawn(command.args(args))?;
        session.next_poll(Duration::from_secs(20))?;
        session.signal(libc::SIGINT);
        let report = session.finish()?;
        let used = report.errors.contains(USED);
        let tasks = report.polls.iter().map(|poll| poll.task.clone());
        let tasks: BTreeSet<_> = tasks.map(|task| format!("{task:?}")).collect();
        let mut head = report.head;
        (head.start_ns, head.start_unix_ns) = (0, 0);
        Ok((head, tasks, used))
    };
    let (without, first, second) = (session(&["--no-cache"])?, session(&[])?, session(&[])?);
    ensure!((without.2, first.2, second.2) == (false, false, true));
    ensure!((&without.0, &without.1) == (&first.0, &first.1));
    ensure!((&first.0, &first.1) == (&second.0, &second.1));
    target.is_alive()?;
    Ok(())
}

#[test]
fn ps_knows_files_that_it_has_seen() -> Result<()> {
    let _place = place()?;
    let (cache, folder) = (Cache::new()?, Folder::new("file")?);
    let program = folder.path().join("seen-before");
    fs::copy(matrix::target(Build::DEFAULT, "busy")?, &program)?;
    thread::sleep(SETTLED);
    let args = ["block", "--millis", "120000", "--rounds", "1"];
    let target = Target::start(&program, &args)?;
    let row = |args: &[&str]| -> Result<(String, usize)> {
        let mut command = cache.command()?;
        let output = command
            .args(["ps", "--log-level", "debug"])
            .args(args)
            .output()?;
        let (said, errors) = (
            String::from_utf8(output.stdout)?,
            String::from_utf8(output.stderr)?,
        );
        let pid = target.pid().to_string();
        let row = said
            .lines()
            .find(|row| row.split_whitespace().next() == Some(&pid));
        let row = row.context(said.clone())?.split_whitespace();
        // All but the age.
        let row: Vec<_> = row.enumerate().filter(|(at, _)| *at != 2).collect();
        let known = errors.lines().find_map(|line| {
            let (_, rest) = line.split_once("cache: knew ")?;
            rest.split(' ').next()?.parse().ok()
        });
        Ok((format!("{row:?}"), known.unwrap_or(0)))
    };
    let (without, first, second) = (row(&["--no-cache"])?, row(&[])?, row(&[])?);
    ensure!((without.1, first.1) == (0, 0), "{without:?} {first:?}");
    ensure!(second.1 > 1, "{second:?}");
    ensure!(
        without.0 == first.0 && first.0 == second.0,
        "{first:?} {second:?}"
    );
    Ok(())
}
