use std::{
    io,
    net::TcpListener,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{figures::Figures, server::Server};
use crate::model::{Event, Live, Sink};

/// How old figures may be.
const EVERY: Duration = Duration::from_secs(1);

/// The sink that shows metrics.
#[derive(Debug)]
pub struct Metrics {
    figures: Arc<Mutex<Figures>>,
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
        Ok(Self {
            figures: Arc::default(),
            listener: Some(TcpListener::bind(address)?),
            server: None,
        })
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
        if let Some(listener) = self.listener.take() {
            self.server = Some(Server::start(listener, Arc::clone(&self.figures))?);
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
