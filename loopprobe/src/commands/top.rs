//! Runs a session on a thread beside the live view, with a channel between the two.

use std::{
    io,
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, Sender, TryRecvError, channel},
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail};
use ratatui::crossterm::event as terminal_event;

use super::{
    columns::columns_of,
    failure,
    output_file::OutputFile,
    privileges,
    progress::{Progress, SCANNING},
    screen::Screen,
    signals::Signals,
    target,
};
use crate::{
    cli::{Exit, GlobalArgs, TopArgs},
    collect::{Stop, ThresholdDial},
    model::{Event, Live, Sink},
    report::{Drawing as _, Flamegraph, TextOptions, TextSink},
    top::{Action, State, action, draw},
};

/// How long a key may wait, and how old the screen may be.
const FRAME: Duration = Duration::from_millis(50);

pub(super) fn run(args: &TopArgs, global: &GlobalArgs) -> anyhow::Result<Exit> {
    use std::io::IsTerminal as _;
    failure::refuse(args.observe.refusal())?;
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        bail!("`top` needs a terminal; `loopprobe attach` writes to files and pipes");
    }
    let pid = target::pid(&args.target)?;
    let stop = Stop::new()?;
    Signals::block()?.stop(&stop)?;
    let dial = ThresholdDial::default();
    let mut options = args.observe.options(pid, global);
    options.threshold_dial = Some(dial.clone());
    let (sender, messages) = channel();
    let session = {
        let stop = stop.clone();
        thread::Builder::new()
            .name("session".to_owned())
            .spawn(move || privileges::observe(&options, &mut ToView(sender), &stop))?
    };
    let mut state = State::default();
    let shown = View {
        stop: &stop,
        dial: &dial,
        messages: &messages,
        pid,
        progress: !global.quiet,
    }
    .show(&mut state);
    stop.trigger();
    drop(messages);
    let summary = match session.join() {
        Ok(result) => result?,
        Err(_) => bail!("the session's thread panicked"),
    };
    shown?;
    let mut text = TextSink::new(
        anstream::stdout(),
        TextOptions {
            quiet: true,
            columns: columns_of(&io::stdout()),
            ..TextOptions::default()
        },
    );
    if let Some(session) = state.session {
        text.event(&Event::Session(session))?;
    }
    text.event(&Event::Summary(summary))?;
    Ok(Exit::Done)
}

enum Message {
    Event(Box<Event>),
    Live(Box<Live>),
}

/// The session's end of the channel to the view.
struct ToView(Sender<Message>);

impl ToView {
    fn send(&self, message: Message) -> io::Result<()> {
        self.0
            .send(message)
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Sink for ToView {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        self.send(Message::Event(Box::new(event.clone())))
    }

    fn live_every(&self) -> Option<Duration> {
        // As often as there is something new.
        Some(Duration::ZERO)
    }

    fn live(&mut self, live: &Live) -> io::Result<()> {
        self.send(Message::Live(Box::new(live.clone())))
    }
}

struct View<'a> {
    stop: &'a Stop,
    dial: &'a ThresholdDial,
    messages: &'a Receiver<Message>,
    pid: u32,
    /// Whether an attach that takes long says so.
    progress: bool,
}

impl View<'_> {
    /// Shows the session until it ends. The terminal is as before afterwards.
    fn show(&self, state: &mut State) -> anyhow::Result<()> {
        // The attach may take long or fail; what is said then belongs on an ordinary screen.
        let attaching = Progress::shown_if(self.progress, SCANNING);
        match self.messages.recv() {
            Ok(first) => take(state, first),
            Err(_) => return Ok(()),
        }
        drop(attaching);
        // The session's thread has what is still needed.
        privileges::keep_only(&[])?;
        let mut screen = Screen::enter().context("cannot set up the terminal")?;
        while !screen.is_left() {
            screen.draw(|frame| draw(state, frame))?;
            if terminal_event::poll(FRAME)? {
                self.keys(state)?;
            }
            if !self.take_all(state) {
                break;
            }
        }
        Ok(())
    }

    fn keys(&self, state: &mut State) -> anyhow::Result<()> {
        while terminal_event::poll(Duration::ZERO)? {
            let terminal_event::Event::Key(key) = terminal_event::read()? else {
                continue;
            };
            let Some(action) = action(key, state.typing) else {
                continue;
            };
            if state.help && !action.passes_help() {
                continue;
            }
            state.apply(action);
            match action {
                Action::Quit => self.stop.trigger(),
                Action::Threshold { .. } => self.dial.set(state.threshold_ns()),
                Action::Flamegraph => state.message = Some(self.flamegraph(state)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes what the session has sent; `false` when it is over.
    fn take_all(&self, state: &mut State) -> bool {
        loop {
            match self.messages.try_recv() {
                Ok(message) => take(state, message),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    /// Writes the session so far; says what came of it.
    fn flamegraph(&self, state: &State) -> String {
        let path = free_name(self.pid);
        let written = OutputFile::create(&path).and_then(|file| {
            let mut file = io::BufWriter::new(file);
            Flamegraph::default().draw(&state.fold, &mut file)?;
            io::Write::flush(&mut file)?;
            Ok(())
        });
        match written {
            Ok(()) => format!("wrote {}", path.display()),
            Err(error) => failure::sentence(&error),
        }
    }
}

fn take(state: &mut State, message: Message) {
    match message {
        Message::Event(event) => state.event(&event),
        Message::Live(live) => state.snapshot(*live),
    }
}

/// A name that no file in the current folder has yet.
fn free_name(pid: u32) -> PathBuf {
    let names = (1_u32..).map(|n| PathBuf::from(format!("loopprobe-{pid}-{n}.svg")));
    let mut free = names.filter(|path: &PathBuf| !Path::new(path).exists());
    free.next()
        .unwrap_or_else(|| PathBuf::from("loopprobe.svg"))
}
