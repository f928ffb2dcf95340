//! OTLP over gRPC, with the protocol's own clients. Whoever sends drives the connection: between
//! two requests nothing runs.

mod failure;
#[cfg(test)]
mod tests;

use std::time::Duration;

use opentelemetry_proto::tonic::collector::{
    logs::v1::logs_service_client::LogsServiceClient,
    metrics::v1::metrics_service_client::MetricsServiceClient,
    trace::v1::trace_service_client::TraceServiceClient,
};
use tokio::runtime::{Builder, Runtime};
use tonic::{
    Request, Status,
    metadata::MetadataMap,
    transport::{Channel, ClientTlsConfig, Endpoint},
};
use ureq::http::HeaderMap;

use self::failure::failure;
use super::{
    address::Address,
    batch::{Batch, Rejected},
};
use crate::export::remote::{Answer, End, Failure, Header};

/// No answer that means anything is longer.
const LONGEST_ANSWER: usize = 64 << 10;

/// The way to a receiver over gRPC.
#[derive(Debug)]
pub(super) struct Grpc {
    authority: String,
    /// `None` without TLS.
    tls: Option<ClientTlsConfig>,
    headers: MetadataMap,
    end: End,
    /// From the first request on: the thread that sends makes it.
    connection: Option<Connection>,
    /// Whether anything was ever answered over gRPC.
    has_answered: bool,
}

#[derive(Debug)]
struct Connection {
    runtime: Runtime,
    channel: Channel,
}

impl Grpc {
    pub(super) fn new(authority: String, tls: bool, headers: Vec<Header>, end: End) -> Self {
        let mut all = HeaderMap::new();
        for Header { name, value } in headers {
            all.append(name, value);
        }
        Self {
            authority,
            // The roots that `ureq` has for `https`.
            tls: tls.then(|| ClientTlsConfig::new().with_webpki_roots()),
            headers: MetadataMap::from_headers(all),
            end,
            connection: None,
            has_answered: false,
        }
    }

    pub(super) fn export(&mut self, batch: &Batch) -> Result<Rejected, String> {
        let end = self.end.clone();
        let outcome = end.retry(|timeout| self.try_once(batch, timeout));
        let of = format!(
            "{} ({})",
            self.address(self.tls.is_some()),
            batch.signal().name()
        );
        match outcome {
            Ok(mut rejected) => {
                self.has_answered = true;
                rejected.why = format!("{of}: {}", rejected.why);
                Ok(rejected)
            }
            Err(failure) => {
                self.has_answered |= failure.answer == Answer::No;
                Err(format!("{of}: {}{}", failure.why, self.hint(&failure)))
            }
        }
    }

    fn try_once(&mut self, batch: &Batch, timeout: Duration) -> Result<Rejected, Failure> {
        let headers = self.headers.clone();
        let Connection { runtime, channel } = self.connection()?;
        let call = call(channel.clone(), batch.clone(), headers);
        let outcome = runtime.block_on(async { tokio::time::timeout(timeout, call).await });
        match outcome {
            Ok(answer) => answer.map_err(|status| failure(&status)),
            Err(_) => Err(Failure {
                why: format!("no answer within {} s", timeout.as_secs_f32()),
                may_pass: true,
                ..Failure::default()
            }),
        }
    }

    fn connection(&mut self) -> Result<&Connection, Failure> {
        if self.connection.is_none() {
            self.connection = Some(self.connect().map_err(|why| Failure {
                why,
                ..Failure::default()
            })?);
        }
        self.connection.as_ref().ok_or_else(Failure::default)
    }

    /// Makes a channel, which connects at the first request, and again when it has lost its
    /// connection.
    fn connect(&self) -> Result<Connection, String> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{}", self.authority))
            .and_then(|endpoint| {
                endpoint.user_agent(concat!("loopprobe/", env!("CARGO_PKG_VERSION")))
            })
            .map_err(|error| error.to_string())?;
        if let Some(tls) = &self.tls {
            let with_tls = endpoint.tls_config(tls.clone());
            endpoint = with_tls.map_err(|error| error.to_string())?;
        }
        let inside = runtime.enter();
        let channel = endpoint.connect_lazy();
        drop(inside);
        Ok(Connection { runtime, channel })
    }

    fn address(&self, tls: bool) -> Address {
        Address::Grpc {
            authority: self.authority.clone(),
            tls,
        }
    }

    /// What to do where the receiver does not seem to speak gRPC.
    fn hint(&self, failure: &Failure) -> String {
        if failure.answer != Answer::Foreign || self.has_answered {
            return String::new();
        }
        let tls = self.tls.is_some();
        let scheme = if tls { "https" } else { "http" };
        let http = format!(
            "if it takes OTLP over HTTP there, give --otlp {scheme}://{}",
            self.authority
        );
        match tls {
            true => format!("; {http}"),
            false => format!("; {http}; if it wants TLS, --otlp {}", self.address(true)),
        }
    }
}

/// Makes one request.
async fn call(channel: Channel, batch: Batch, headers: MetadataMap) -> Result<Rejected, Status> {
    macro_rules! export {
        ($client:ident, $message:expr) => {{
            let client = $client::new(channel);
            let mut client = client.max_decoding_message_size(LONGEST_ANSWER);
            let mut request = Request::new($message);
            *request.metadata_mut() = headers;
            client.export(request).await?.into_inner().into()
        }};
    }
    Ok(match batch {
        Batch::Metrics(message) => export!(MetricsServiceClient, message),
        Batch::Traces(message) => export!(TraceServiceClient, message),
        Batch::Logs(message) => export!(LogsServiceClient, message),
    })
}
