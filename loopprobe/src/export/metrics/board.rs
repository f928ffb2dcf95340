//! The figures of all processes that are observed at the moment, for one address.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
};

use super::{Metrics, server::Server, shown::Shown, targets::Targets};

/// One address at which the figures of many sessions are shown, each with labels of its own.
#[derive(Debug)]
pub struct Board {
    shown: Arc<Shown>,
    server: Server,
}

impl Board {
    /// Answers at an address from now on.
    ///
    /// # Errors
    ///
    /// If it cannot be listened at.
    pub fn listen(address: &str) -> io::Result<Self> {
        let shown = Arc::<Shown>::default();
        let server = Server::start(TcpListener::bind(address)?, Arc::clone(&shown))?;
        Ok(Self { shown, server })
    }

    /// Where that is.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// A sink for one more session, whose figures all have these labels. They are shown until it is
    /// dropped.
    pub fn panel(&self, pid: u32, name: &str) -> Metrics {
        let labels = vec![("pid", pid.to_string()), ("name", name.to_owned())];
        Metrics::on(Arc::clone(&self.shown), labels)
    }

    /// How many processes are observed, and how many are not.
    pub fn tell(&self, targets: Targets) {
        self.shown.tell(targets);
    }
}
