//! Both ways that OTLP can come: what holds for one is held for the other.

use anyhow::Result;

use super::grpc;
use crate::receiver::{Answer, Receiver, Sent};

/// How a receiver is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// OTLP over HTTP, with protobuf.
    Http,
    /// OTLP over gRPC.
    Grpc,
}

impl Transport {
    /// A receiver that answers each request as `answer` says, which is given it and how many came
    /// before. A request over gRPC is shown as the same one over HTTP would be, by path and body,
    /// and statuses of HTTP are answered as gRPC's codes for the same.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn start(
        self,
        answer: impl Fn(usize, &Sent) -> Answer + Send + 'static,
    ) -> Result<Receiver> {
        match self {
            Self::Http => Receiver::start(answer),
            Self::Grpc => grpc::start(answer),
        }
    }

    /// A receiver that takes all.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn willing(self) -> Result<Receiver> {
        self.start(|_, _| Answer::Take(Vec::new()))
    }

    /// The address of a port on loopback.
    pub fn url(self, port: u16) -> String {
        let scheme = match self {
            Self::Http => "http",
            Self::Grpc => "grpc",
        };
        format!("{scheme}://127.0.0.1:{port}")
    }

    /// Of its requests.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Http => "application/x-protobuf",
            Self::Grpc => "application/grpc",
        }
    }
}
