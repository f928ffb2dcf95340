//! What is shown on a real terminal, and in what state the terminal is left.

use std::{
    fs::{self, File},
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use anyhow::{Result, ensure};
use loopprobe::{commands::screen::Screen, model::Event, model::Sink as _, recording::Recorder};
use loopprobe_tests::{
    folder::Folder,
    halve_machine,
    matrix::{self, Build},
    synthetic,
    target::Target,
    terminal::Terminal,
};

/// A program that works for a minute, started when all else is built.
fn sleepers() -> Result<Target> {
    matrix::loopprobe()?;
    let program = matrix::target(Build::DEFAULT, "causes")?;
    let args = [
        "sleep", "--millis", "30", "--rounds", "2000", "--gate", "before", "--hold",
    ];
    let mut target = Target::start(&program, &args)?;
    target.send("go")?;
    Ok(target)
}

fn start_view(terminal: &Terminal, folder: &Folder, target: &Target) -> Result<()> {
    terminal.run(&format!(
        "clear; cd {} && {} top --pid {}; echo ended with $?",
        folder.path().display(),
        matrix::loopprobe()?.display(),
        target.pid()
    ))
}

#[test]
fn the_live_view_answers_keys() -> Result<()> {
    halve_machine!();
    let Some(terminal) = Terminal::open()? else {
        return Ok(());
    };
    let folder = Folder::new("top")?;
    let mut target = sleepers()?;
    let pid = target.pid();
    start_view(&terminal, &folder, &target)?;
    terminal.shows("sleep_task")?;
    terminal.shows("fix: use tokio::time::sleep")?;
    terminal.shows(">= 10ms")?;
    terminal.keys(&["+"])?;
    terminal.shows(">= 20ms")?;
    terminal.keys(&["f"])?;
    terminal.shows(&format!("wrote loopprobe-{pid}-1.svg"))?;
    ensure!(Path::new(&folder.file(&format!("loopprobe-{pid}-1.svg"))).exists());
    terminal.keys(&["/", "nothing like it", "Enter"])?;
    terminal.shows("Long polls (0)")?;
    terminal.keys(&["/", "Escape"])?;
    // Escape and the next key at once would be another key.
    terminal.shows("q quit")?;
    terminal.keys(&["p"])?;
    terminal.shows("PAUSED")?;
    ensure!(terminal.state("alternate_on")? == "1");
    terminal.keys(&["q"])?;
    terminal.shows("ended with 0")?;
    terminal.is_clean()?;
    ensure!(target.is_alive()?);
    Ok(())
}

#[test]
fn the_live_view_ends_with_its_terminal() -> Result<()> {
    halve_machine!();
    let Some(terminal) = Terminal::open()? else {
        return Ok(());
    };
    let folder = Folder::new("top-gone")?;
    let mut target = sleepers()?;
    start_view(&terminal, &folder, &target)?;
    terminal.shows("q quit")?;
    let view = terminal.child()?;
    drop(terminal);
    let process = format!("/proc/{view}");
    for _ in 0..100 {
        if !Path::new(&process).exists() {
            ensure!(target.is_alive()?);
            return Ok(());
        }
        thread::sleep(Duration::from_millis(100));
    }
    // SAFETY: the process is the one that this test has started, and it is still there.
    unsafe { libc::kill(view, libc::SIGKILL) };
    anyhow::bail!("it goes on without a terminal")
}

#[test]
fn signals_end_the_live_view_and_leave_a_clean_terminal() -> Result<()> {
    halve_machine!();
    let Some(terminal) = Terminal::open()? else {
        return Ok(());
    };
    let folder = Folder::new("top-signals")?;
    let mut target = sleepers()?;
    for signal in [libc::SIGTERM, libc::SIGHUP, libc::SIGINT] {
        start_view(&terminal, &folder, &target)?;
        // Only the view shows this; the summary of the round before has the rest.
        terminal.shows("q quit")?;
        // SAFETY: the process is a child of the shell that this test has started.
        unsafe { libc::kill(terminal.child()?, signal) };
        terminal.shows("ended with 0")?;
        terminal.is_clean()?;
    }
    ensure!(target.is_alive()?);
    Ok(())
}

#[test]
fn a_panic_leaves_a_clean_terminal_and_can_be_read() -> Result<()> {
    let this = std::env::current_exe()?;
    for thread in ["view", "other"] {
        let Some(terminal) = Terminal::open()? else {
            return Ok(());
        };
        // The program in the terminal is this very test, which panics while it has the screen.
        terminal.run(&format!(
            "RUST_BACKTRACE=0 {} the_{thread}_thread_panics_on_the_screen --exact --ignored --nocapture --test-threads=1; echo ended $((40 + 2))",
            this.display()
        ))?;
        terminal.shows("ended 42")?;
        terminal.shows("something is wrong")?;
        ensure!(
            !terminal.screen()?.contains("drawn"),
            "{}",
            terminal.screen()?
        );
        terminal.is_clean()?;
    }
    Ok(())
}

fn draw(screen: &mut Screen) {
    screen
        .draw(|frame| frame.render_widget("drawn", frame.area()))
        .unwrap();
}

#[test]
#[ignore = "panics; run by another test, in a terminal"]
fn the_view_thread_panics_on_the_screen() {
    let mut screen = Screen::enter().unwrap();
    draw(&mut screen);
    panic!("something is wrong");
}

#[test]
#[ignore = "panics; run by another test, in a terminal"]
fn the_other_thread_panics_on_the_screen() {
    let mut screen = Screen::enter().unwrap();
    draw(&mut screen);
    let other = thread::spawn(|| panic!("something is wrong"));
    while !screen.is_left() {
        draw(&mut screen);
    }
    draw(&mut screen);
    assert!(other.join().is_err());
}

/// Writes a recording of polls to a pipe, slowly, until told to end.
fn record_slowly(path: String, end: &Mutex<bool>) -> Result<()> {
    let mut recorder = Recorder::new(File::options().write(true).open(path)?)?;
    let polls = synthetic::polls(50);
    recorder.event(&synthetic::head("api-server"))?;
    while !*end.lock().unwrap() {
        for poll in &polls {
            recorder.event(&Event::LongPoll(poll.clone()))?;
        }
        thread::sleep(Duration::from_millis(50));
    }
    recorder.event(&synthetic::end(&polls))?;
    Ok(())
}

#[test]
fn what_takes_longer_than_a_second_says_so_on_a_terminal_only() -> Result<()> {
    let Some(terminal) = Terminal::open()? else {
        return Ok(());
    };
    let folder = Folder::new("progress")?;
    let (pipe, page, errors) = (
        folder.file("slow.lpr"),
        folder.file("r.html"),
        folder.file("errors"),
    );
    ensure!(Command::new("mkfifo").arg(&pipe).status()?.success());
    for (place, seen) in [("", true), ("2>errors", false)] {
        let end = Arc::new(Mutex::new(false));
        let writer = thread::spawn({
            let (pipe, end) = (pipe.clone(), end.clone());
            move || record_slowly(pipe, &end)
        });
        terminal.run(&format!(
            "clear; cd {}; {} report {pipe} --html {page} -o /dev/null {place}; echo ended with $?",
            folder.path().display(),
            matrix::loopprobe()?.display()
        ))?;
        if seen {
            terminal.shows("slow.lpr, ")?;
            terminal.shows("events: 1s")?;
        } else {
            // Longer than the patience of the progress.
            thread::sleep(Duration::from_millis(1_500));
        }
        *end.lock().unwrap() = true;
        writer.join().unwrap()?;
        terminal.shows("ended with 0")?;
        ensure!(
            !terminal.screen()?.contains("events: "),
            "{}",
            terminal.screen()?
        );
    }
    ensure!(fs::read_to_string(errors)?.is_empty());
    Ok(())
}
