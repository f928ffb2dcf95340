//! OTLP over HTTP, with protobuf.

use super::batch::{Batch, Rejected};
use crate::export::remote::{Answer, Client, End, Failure, Header};

/// The way to a receiver over HTTP.
#[derive(Debug)]
pub(super) struct Http {
    /// What is before `/v1/traces`.
    url: String,
    client: Client,
    /// Whether anything was ever answered over HTTP.
    has_answered: bool,
}

impl Http {
    pub(super) fn new(url: String, headers: Vec<Header>, end: End) -> Self {
        Self {
            url,
            client: Client::new(headers, end),
            has_answered: false,
        }
    }

    pub(super) fn export(&mut self, batch: &Batch) -> Result<Rejected, String> {
        let url = format!("{}/v1/{}", self.url, batch.signal().name());
        let body = batch.encode();
        match self.client.post(&url, "application/x-protobuf", &body) {
            Ok(answer) => {
                self.has_answered = true;
                let mut rejected = batch.rejected(&answer);
                rejected.why = format!("{url}: {}", rejected.why);
                Ok(rejected)
            }
            Err(failure) => {
                self.has_answered |= failure.answer == Answer::No;
                Err(format!("{}{}", failure.why, self.hint(&failure)))
            }
        }
    }

    /// What to do where the receiver does not seem to speak HTTP.
    fn hint(&self, failure: &Failure) -> String {
        let (scheme, rest) = self.url.split_once("://").unwrap_or_default();
        if failure.answer != Answer::Foreign || self.has_answered {
            return String::new();
        }
        let authority = rest.split('/').next().unwrap_or(rest);
        let scheme = if scheme == "https" { "grpcs" } else { "grpc" };
        format!("; if it takes OTLP over gRPC there, give --otlp {scheme}://{authority}")
    }
}
