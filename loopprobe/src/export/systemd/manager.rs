//! What a service tells systemd: that it is ready, alive, reloading, stopping (sd_notify(3)).

use std::{env, io, time::Duration};

use sd_notify::NotifyState;

use crate::{
    model::{Event, Live, Sink},
    report::{Chosen, clean},
};

/// The sink that tells the service manager of a session.
#[derive(Debug)]
pub struct Manager {
    /// How often it wants a sign of life.
    watchdog: Option<Duration>,
}

impl Manager {
    /// The one that has started this process, if one has.
    pub fn from_environment() -> Option<Self> {
        env::var_os("NOTIFY_SOCKET")?;
        Some(Self {
            watchdog: sd_notify::watchdog_enabled(),
        })
    }
}

impl Sink for Manager {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        match event {
            // The probes are in place by now.
            Event::Session(session) => {
                let status = format!(
                    "{} (pid {}), polls >= {} are reported",
                    clean(&session.name),
                    session.pid,
                    Chosen(session.threshold_ns)
                );
                tell(&[NotifyState::Ready, NotifyState::Status(&status)]);
            }
            Event::Summary(summary) => {
                let status = format!("ended: {}", clean(&summary.reason));
                tell(&[NotifyState::Stopping, NotifyState::Status(&status)]);
            }
            _ => {}
        }
        Ok(())
    }

    /// Snapshots come from the session's own loop, so their coming is the sign of life.
    fn live_every(&self) -> Option<Duration> {
        self.watchdog.map(|within| within / 3)
    }

    fn live(&mut self, _: &Live) -> io::Result<()> {
        tell(&[NotifyState::Watchdog]);
        Ok(())
    }
}

/// What a daemon of many sessions tells the service manager.
#[derive(Debug)]
pub struct Daemon {
    is_told: bool,
    watchdog: Option<Duration>,
}

impl Daemon {
    /// For the manager that has started this process, if one has.
    pub fn from_environment() -> Self {
        Self {
            is_told: env::var_os("NOTIFY_SOCKET").is_some(),
            watchdog: sd_notify::watchdog_enabled(),
        }
    }

    /// It has looked at all processes; `status` says what it found.
    pub fn is_ready(&self, status: &str) {
        if self.is_told {
            tell(&[NotifyState::Ready, NotifyState::Status(status)]);
        }
    }

    /// How often a sign of life is wanted.
    pub fn alive_every(&self) -> Option<Duration> {
        self.watchdog.map(|within| within / 3)
    }

    /// A sign of life.
    pub fn is_alive(&self) {
        tell(&[NotifyState::Watchdog]);
    }

    /// It ends.
    pub fn is_stopping(&self) {
        if self.is_told {
            tell(&[NotifyState::Stopping]);
        }
    }
}

/// Says that a reload begins.
pub fn reloading() {
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        tell(&[NotifyState::Reloading, now]);
    }
}

/// Says that it is over.
pub fn reloaded() {
    tell(&[NotifyState::Ready]);
}

/// A manager that cannot be told does not end the session.
fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        log::warn!("cannot tell the service manager: {error}");
    }
}
