//! The alternate screen, and the way back from it, whatever happens.

use std::{
    io::{self, stdin, stdout},
    os::fd::AsFd as _,
    panic,
    sync::{
        Once,
        atomic::{AtomicBool, Ordering::AcqRel, Ordering::Acquire, Ordering::Release},
    },
    thread,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::Signal,
};
use ratatui::{
    DefaultTerminal, Terminal,
    backend::CrosstermBackend,
    crossterm::{
        cursor::Show,
        execute,
        terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
    },
};

static ENTERED: AtomicBool = AtomicBool::new(false);

/// The terminal while a view has it to itself. It is as before afterwards: at the end, and before a
/// panic of any thread says what it has to say.
#[derive(Debug)]
pub struct Screen(DefaultTerminal);

impl Screen {
    /// Takes the terminal.
    ///
    /// # Errors
    ///
    /// If standard output is none.
    pub fn enter() -> io::Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let hook = panic::take_hook();
            panic::set_hook(Box::new(move |info| {
                leave();
                hook(info);
            }));
        });
        end_with_terminal()?;
        ENTERED.store(true, Release);
        let terminal = enable_raw_mode()
            .and_then(|()| execute!(stdout(), EnterAlternateScreen))
            .and_then(|()| Terminal::new(CrosstermBackend::new(stdout())));
        match terminal {
            Ok(terminal) => Ok(Self(terminal)),
            Err(error) => {
                leave();
                Err(error)
            }
        }
    }

    /// Draws, unless the terminal has been given back already.
    ///
    /// # Errors
    ///
    /// Whatever writing gives.
    pub fn draw(&mut self, draw: impl FnOnce(&mut ratatui::Frame<'_>)) -> io::Result<()> {
        if self.is_left() {
            return Ok(());
        }
        self.0.draw(draw).map(|_| ())
    }

    /// Whether the terminal has been given back, as by a panic of another thread.
    pub fn is_left(&self) -> bool {
        !ENTERED.load(Acquire)
    }
}

/// Ends loopprobe when the terminal goes, with its window or its connection: whoever waits for keys
/// then waits for ever, and crossterm 0.29 does so without rest. The probes go with the process.
fn end_with_terminal() -> io::Result<()> {
    let watch = || {
        let stdin = stdin();
        // Without asking for anything, an end and an error are told all the same.
        let mut fds = [PollFd::new(stdin.as_fd(), PollFlags::empty())];
        while poll(&mut fds, PollTimeout::NONE) == Err(Errno::EINTR) {}
        std::process::exit(128 + Signal::SIGHUP as i32);
    };
    thread::Builder::new()
        .name("terminal".to_owned())
        .spawn(watch)
        .map(drop)
}

impl Drop for Screen {
    fn drop(&mut self) {
        leave();
    }
}

/// Gives the terminal back, if a view has it.
pub fn leave() {
    if ENTERED.swap(false, AcqRel) {
        // There is no one to tell, and nothing else to try.
        let _ = disable_raw_mode();
        let _ = execute!(stdout(), LeaveAlternateScreen, Show);
    }
}
