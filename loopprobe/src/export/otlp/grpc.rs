//! OTLP over gRPC, with the protocol's own clients. Whoever sends drives the connection: between two
//! requests nothing runs.

use std::{error::Error as _, time::Duration};

use opentelemetry_proto::tonic::collector::{
    logs::v1::logs_service_client::LogsServiceClient,
    metrics::v1::metrics_service_client::MetricsServiceClient,
    trace::v1::trace_service_client::TraceServiceClient,
};
use tokio::runtime::{Builder, Runtime};
use tonic::{
    Code, ConnectError, Request, Status,
    metadata::MetadataMap,
    transport::{Channel, ClientTlsConfig, Endpoint},
};
use tonic_types::StatusExt as _;
use ureq::http::HeaderMap;

use super::{
    address::Address,
    batch::{Batch, Rejected},
};
use crate::export::remote::{Answer, End, Failure, Header};

/// No answer that means anything is longer.
const LONGEST_ANSWER: usize = 64 << 10;
/// What OTLP over HTTP listens at, as a rule.
const HTTP_PORT: u16 = 4318;

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
        }
    }

    pub(super) fn export(&mut self, batch: &Batch) -> Result<Rejected, String> {
        let end = self.end.clone();
        let outcome = end.retry(|timeout| self.try_once(batch, timeout));
        let of = format!("{} ({})", self.address(), batch.signal().name());
        match outcome {
            Ok(rejected) => Ok(Rejected {
                why: format!("{of}: {}", rejected.why),
                ..rejected
            }),
            Err(failure) => Err(format!("{of}: {}{}", failure.why, self.hint(&failure))),
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
        let _inside = runtime.enter();
        let channel = endpoint.connect_lazy();
        drop(_inside);
        Ok(Connection { runtime, channel })
    }

    fn address(&self) -> Address {
        Address::Grpc {
            authority: self.authority.clone(),
            tls: self.tls.is_some(),
        }
    }

    /// What to do where the receiver does not seem to speak gRPC.
    fn hint(&self, failure: &Failure) -> String {
        let is_http_port = self.authority.ends_with(&format!(":{HTTP_PORT}"));
        match failure.answer {
            Answer::Foreign => {}
            Answer::HungUp if is_http_port => {}
            _ => return String::new(),
        }
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!(
            "; if that is a port for OTLP over HTTP, as {HTTP_PORT} is as a rule, give --otlp {scheme}://{}",
            self.authority
        )
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

fn failure(status: &Status) -> Failure {
    let retry = status.get_details_retry_info();
    // What the receiver has said has no source: only what went wrong on the way has one.
    let on_the_way = status.source().is_some();
    Failure {
        why: sentence(status),
        may_pass: on_the_way || is_retryable(status.code(), retry.is_some()),
        after: retry.and_then(|retry| retry.retry_delay),
        answer: if on_the_way {
            answer(status)
        } else {
            Answer::NoneOrNo
        },
    }
}

/// The codes that the OTLP specification, 1.x, says may pass (opentelemetry-proto,
/// `docs/specification.md`, "Failures" of OTLP/gRPC); all others are for good.
fn is_retryable(code: Code, has_retry_info: bool) -> bool {
    match code {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => true,
        Code::ResourceExhausted => has_retry_info,
        _ => false,
    }
}

/// The code, what is said beside it, and the first cause.
fn sentence(status: &Status) -> String {
    let mut said = format!("{:?}", status.code());
    if !status.message().is_empty() {
        said = format!("{said}: {}", status.message());
    }
    match causes(status).last().map(ToString::to_string) {
        Some(first) if !said.contains(&first) => format!("{said}: {first}"),
        _ => said,
    }
}

fn answer(status: &Status) -> Answer {
    if causes(status).any(<dyn std::error::Error>::is::<ConnectError>) {
        Answer::NoneOrNo
    } else if status.code() == Code::Internal {
        // What HTTP/2 calls an error of the protocol.
        Answer::Foreign
    } else {
        Answer::HungUp
    }
}

fn causes(status: &Status) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(status.source(), |error| (*error).source())
}
