//! Listens at once, answers from the session's head on, and wants a snapshot every second.

use std::{
    io,
    net::TcpListener,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{figures::Figures, server::Server, shown::Shown};
use crate::model::{Event, Live, Sink};

/// How old figures may be.
const EVERY: Duration = Duration::from_secs(1);

/// The sink that shows metrics.
#[derive(Debug)]
pub struct Metrics {
    figures: Arc<Mutex<Figures>>,
    shown: Arc<Shown>,
    labels: Vec<(&'static str, String)>,
    /// By which they are taken away; from the session's head on.
    number: Option<u64>,
    /// Until the session's head: by then loopprobe has given up the rights that the probes took.
    listener: Option<TcpListener>,
    server: Option<Server>,
}

impl Metrics {
    /// Answers at an address.
    ///
    /// # Errors
    ///
    /// If it cannot be listened at.
    pub fn listen(address: &str) -> io::Result<Self> {
        let mut metrics = Self::on(Arc::default(), Vec::new());
        metrics.listener = Some(TcpListener::bind(address)?);
        Ok(metrics)
    }

    /// Shows its figures beside others', each with these labels.
    pub(super) fn on(shown: Arc<Shown>, labels: Vec<(&'static str, String)>) -> Self {
        let figures = Figures::labelled(labels.iter().map(|(name, _)| *name).collect());
        Self {
            figures: Arc::new(Mutex::new(figures)),
            shown,
            labels,
            number: None,
            listener: None,
            server: None,
        }
    }

    /// Where that is: the port, if 0 was asked for.
    ///
    /// # Errors
    ///
    /// What the kernel gives.
    pub fn address(&self) -> io::Result<std::net::SocketAddr> {
        match (&self.listener, &self.server) {
            (Some(listener), _) => listener.local_addr(),
            (None, Some(server)) => Ok(server.address()),
            (None, None) => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn figures(&self) -> MutexGuard<'_, Figures> {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink for Metrics {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        self.figures().event(event);
        if self.number.is_none() {
            let figures = Arc::clone(&self.figures);
            self.number = Some(self.shown.add(self.labels.clone(), figures));
        }
        if let Some(listener) = self.listener.take() {
            self.server = Some(Server::start(listener, Arc::clone(&self.shown))?);
        }
        Ok(())
    }

    fn live_every(&self) -> Option<Duration> {
        Some(EVERY)
    }

    fn live(&mut self, live: &Live) -> io::Result<()> {
        self.figures().live(live);
        Ok(())
    }
}

impl Drop for Metrics {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.shown.remove(number);
        }
    }
}
