//! OTLP over HTTP, with protobuf.

use super::batch::{Batch, Rejected};
use crate::export::remote::{Answer, Client, End, Failure, Header};

/// What OTLP over gRPC listens at, as a rule.
const GRPC_PORT: u16 = 4317;

/// The way to a receiver over HTTP.
#[derive(Debug)]
pub(super) struct Http {
    /// What is before `/v1/traces`.
    url: String,
    client: Client,
}

impl Http {
    pub(super) fn new(url: String, headers: Vec<Header>, end: End) -> Self {
        Self {
            url,
            client: Client::new(headers, end),
        }
    }

    pub(super) fn export(&self, batch: &Batch) -> Result<Rejected, String> {
        let url = format!("{}/v1/{}", self.url, batch.signal().name());
        let posted = self
            .client
            .post(&url, "application/x-protobuf", &batch.encode());
        let answer = posted.map_err(|failure| self.sentence(&failure))?;
        let mut rejected = batch.rejected(&answer);
        rejected.why = format!("{url}: {}", rejected.why);
        Ok(rejected)
    }

    /// The reason, and what to do where the receiver seems to be one of gRPC.
    fn sentence(&self, failure: &Failure) -> String {
        let Some((scheme, rest)) = self.url.split_once("://") else {
            return failure.why.clone();
        };
        let authority = rest.split('/').next().unwrap_or(rest);
        let is_grpc_port = authority.ends_with(&format!(":{GRPC_PORT}"));
        match failure.answer {
            Answer::Foreign => {}
            Answer::HungUp if is_grpc_port => {}
            _ => return failure.why.clone(),
        }
        let scheme = if scheme == "https" { "grpcs" } else { "grpc" };
        format!(
            "{}; if that is a port for gRPC, as {GRPC_PORT} is as a rule, give --otlp {scheme}://{authority}",
            failure.why
        )
    }
}
