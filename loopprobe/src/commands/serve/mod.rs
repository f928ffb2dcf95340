//! One daemon for a machine: attaches to the processes that were chosen, lets them go as they end,
//! and picks up new ones. Each has a session of its own, on a thread of its own.

mod fleet;
mod output;
mod select;
mod session;

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    time::Instant,
};

use anyhow::Context as _;
use nix::sys::signal::Signal;

use self::{fleet::Fleet, output::SharedOutput, session::Common};
use super::{
    invoking_user::InvokingUser,
    privileges,
    reload::{read_again, say_changed},
    say,
    signals::{Goes, Signals},
};
use crate::{
    cli::{Cli, Command, Exit, ServeArgs, ServeKeys, Setting},
    export::{
        metrics::{Board, Targets},
        systemd::{self, Daemon},
    },
    report::words,
};

/// What is not taken over while it runs.
const FIXED: [&str; 2] = ["metrics", "duration"];
/// What holds at once, for all processes; any other option does for those that are attached to
/// later.
const AT_ONCE: [&str; 15] = [
    "threshold",
    "warn",
    "critical",
    "threshold-for",
    "ignore",
    "cause",
    "name",
    "command",
    "unit",
    "cgroup",
    "container",
    "all",
    "except",
    "max-targets",
    "look-every",
];

/// What the fleet is told.
#[derive(Debug)]
pub(super) enum Message {
    /// To end.
    Stop,
    /// To read the file again.
    Reload,
    /// A session has begun.
    Attached,
    /// A session has ended, or could not begin.
    Over,
}

pub(super) fn run(args: &ServeArgs, cli: &Cli) -> anyhow::Result<Exit> {
    if args.keys.select.is_empty() {
        say::error(
            "choose processes with --name, --command, --unit, --cgroup, --container or --all (docs/serve.md)",
        );
        return Ok(Exit::Usage);
    }
    super::failure::refuse(args.keys.refusal())?;
    let (news, heard) = channel();
    let signals = Signals::block()?;
    let (sender, has_file) = (news.clone(), args.config.config.is_some());
    signals.each_but_the_last(move |signal, from_terminal| {
        let reloads = has_file && signal == Signal::SIGHUP && !from_terminal;
        let (message, goes) = if reloads {
            (Message::Reload, Goes::On)
        } else {
            (Message::Stop, Goes::ToItsEnd)
        };
        let _ = sender.send(message);
        goes
    })?;
    let board = board(args, cli)?;
    let environment = InvokingUser::from_sudo().map_or_else(Vec::new, |user| user.environment());
    let common = Common {
        output: SharedOutput::open(&args.output, &cli.global)?,
        board,
        environment,
        attaching: Arc::default(),
        loads: Arc::default(),
        news,
    };
    // From here on there are threads, and they have what this one has.
    privileges::keep_what_attaching_takes()?;
    let mut fleet = Fleet::new(args.keys.clone(), cli.global.clone(), common);
    let daemon = Daemon::from_environment();
    let reload = Reload::new(args, cli);
    serve(&mut fleet, &heard, args, cli, reload, &daemon)?;
    daemon.is_stopping();
    fleet.end();
    Ok(Exit::Done)
}

fn board(args: &ServeArgs, cli: &Cli) -> anyhow::Result<Option<Arc<Board>>> {
    let Some(address) = &args.keys.monitor.metrics.metrics else {
        return Ok(None);
    };
    let board = Board::listen(address)
        .with_context(|| format!("cannot listen at {address} (--metrics HOST:PORT)"))?;
    if !cli.global.quiet {
        say::remark(&format!("metrics: http://{}/metrics", board.address()));
    }
    Ok(Some(Arc::new(board)))
}

/// Until a signal or the duration's end.
fn serve(
    fleet: &mut Fleet,
    heard: &Receiver<Message>,
    args: &ServeArgs,
    cli: &Cli,
    mut reload: Reload,
    daemon: &Daemon,
) -> anyhow::Result<()> {
    let end = args
        .keys
        .observe
        .duration
        .map(|after| Instant::now() + after);
    let mut next_look = Instant::now();
    let mut told = None;
    loop {
        let now = Instant::now();
        if end.is_some_and(|end| now >= end) {
            return Ok(());
        }
        if now >= next_look {
            fleet.look()?;
            next_look = now + reload.keys.select.look_every;
        }
        tell(fleet.targets(), &mut told, cli, daemon);
        let mut until = next_look;
        if let Some(every) = daemon.alive_every() {
            daemon.is_alive();
            until = until.min(now + every);
        }
        if let Some(end) = end {
            until = until.min(end);
        }
        match heard.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(Message::Reload) => {
                if let Some(keys) = reload.reload() {
                    fleet.follow(keys);
                    next_look = Instant::now();
                }
            }
            Ok(Message::Stop) => return Ok(()),
            Ok(Message::Attached | Message::Over) => fleet.reap(),
            Err(RecvTimeoutError::Timeout) => {}
            // This function's caller holds a sender.
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}

/// Says how many there are, when that has changed.
fn tell(now: Targets, told: &mut Option<Targets>, cli: &Cli, daemon: &Daemon) {
    if *told == Some(now) {
        return;
    }
    let mut text = format!("{} observed", words::count(now.observed, "process"));
    for (state, count) in now.by_state().into_iter().skip(1) {
        if count > 0 {
            text += &format!(", {count} {}", state.replace('_', " "));
        }
    }
    if !cli.global.quiet {
        say::remark(&text);
    }
    daemon.is_ready(&text);
    *told = Some(now);
}

/// Reads the file again.
struct Reload {
    typed: Vec<std::ffi::OsString>,
    settings: crate::cli::Settings,
    keys: ServeKeys,
}

impl Reload {
    fn new(args: &ServeArgs, cli: &Cli) -> Self {
        Self {
            typed: cli.typed.clone(),
            settings: cli.settings.clone(),
            keys: args.keys.clone(),
        }
    }

    /// What holds from now on, said on standard error; `None` where nothing changes, as with a file
    /// that is wrong.
    fn reload(&mut self) -> Option<ServeKeys> {
        systemd::reloading();
        let read = read_again(&self.typed);
        systemd::reloaded();
        let cli = read?;
        let Command::Serve(args) = cli.command else {
            return None;
        };
        if let Some(why) = args.keys.refusal() {
            say::warning(&format!("nothing is changed: {why}"));
            return None;
        }
        let changed = self.settings.changed(&cli.settings);
        if changed.is_empty() {
            say::remark("the configuration was read again: nothing has changed");
            return None;
        }
        let (fixed, free): (Vec<&Setting>, Vec<&Setting>) = changed
            .into_iter()
            .partition(|setting| FIXED.contains(&setting.key.as_str()));
        for setting in &fixed {
            say::warning(&format!(
                "`{}` cannot be changed while loopprobe runs; start it again for that",
                setting.key
            ));
        }
        let (at_once, later): (Vec<&Setting>, Vec<&Setting>) = free
            .into_iter()
            .partition(|setting| AT_ONCE.contains(&setting.key.as_str()));
        for (when, settings) in [
            ("from now on", at_once),
            ("for processes that are attached to from now on", later),
        ] {
            if !settings.is_empty() {
                say_changed(when, &settings);
            }
        }
        self.settings = cli.settings;
        self.keys = args.keys;
        Some(self.keys.clone())
    }
}
