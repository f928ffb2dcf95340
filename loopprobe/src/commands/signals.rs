//! SIGINT, SIGTERM and SIGHUP by signalfd: they end the session, reload, or go on to a child.

use nix::sys::{
    signal::{SigSet, Signal},
    signalfd::{SfdFlags, SignalFd, siginfo},
};

use super::{privileges, reload::Reload, screen};
use crate::{attach::await_removal, collect::Stop};

/// SIGINT, SIGTERM and SIGHUP, taken out of their usual way. To be created before any thread is
/// started, for threads inherit the mask; child processes do not, as the standard library resets
/// theirs.
#[derive(Debug)]
pub(super) struct Signals(SignalFd);

impl Signals {
    /// Blocks the signals in this thread and those that it starts from now on.
    pub(super) fn block() -> anyhow::Result<Self> {
        let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
        signals.thread_block()?;
        Ok(Self(SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC)?))
    }

    /// Ends the session at the first signal, and loopprobe itself at the second, without a report,
    /// but not while probes are being removed.
    pub(super) fn stop(self, stop: &Stop) -> anyhow::Result<()> {
        self.stop_or_reload(stop, None)
    }

    /// The same, but a SIGHUP that a process sent (not a terminal that goes away) reads the
    /// configuration again, if there is one.
    pub(super) fn stop_or_reload(
        self,
        stop: &Stop,
        mut reload: Option<Reload>,
    ) -> anyhow::Result<()> {
        let stop = stop.clone();
        self.each_but_the_last(move |signal, from_terminal| {
            if let (Signal::SIGHUP, false, Some(reload)) = (signal, from_terminal, &mut reload) {
                reload.reload();
                return Goes::On;
            }
            stop.trigger();
            Goes::ToItsEnd
        })
    }

    /// Calls `handle` for each signal, which says whether that is the end: the next one then ends
    /// loopprobe at once, without a report, but not while probes are being removed.
    pub(super) fn each_but_the_last(
        self,
        mut handle: impl FnMut(Signal, bool) -> Goes + Send + 'static,
    ) -> anyhow::Result<()> {
        let mut goes = Goes::On;
        self.on_each(move |signal, from_terminal| {
            if goes == Goes::On {
                goes = handle(signal, from_terminal);
                return;
            }
            screen::leave();
            let _none_begins = await_removal(|| {
                eprintln!("loopprobe: removing the probes first, which takes a moment");
            });
            std::process::exit(128 + signal as i32);
        })
    }

    /// Calls `handle` for each signal on a thread of its own: with the signal, and whether the
    /// kernel sent it (a terminal's Ctrl-C) and not a process.
    pub(super) fn on_each(
        self,
        mut handle: impl FnMut(Signal, bool) + Send + 'static,
    ) -> anyhow::Result<()> {
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                // What cannot be given up here cannot be given up by the session either, which says
                // so.
                let _ = privileges::give_up_but_signals();
                while let Ok(Some(info)) = self.0.read_signal() {
                    if let Some(signal) = signal_of(&info) {
                        handle(signal, info.ssi_code == libc::SI_KERNEL);
                    }
                }
            })?;
        Ok(())
    }
}

/// What comes after a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goes {
    /// More of the same.
    On,
    /// The end, in good order.
    ToItsEnd,
}

fn signal_of(info: &siginfo) -> Option<Signal> {
    Signal::try_from(i32::try_from(info.ssi_signo).ok()?).ok()
}
