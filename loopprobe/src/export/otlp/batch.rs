//! What is sent at once, and what a receiver says it did not take of it: the protocol's requests
//! and responses.

use opentelemetry_proto::tonic::collector::{
    logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse},
    metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse},
    trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
};
use prost::Message;

/// A kind of what is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// The figures of `/metrics`.
    Metrics,
    /// A span a long poll.
    Traces,
    /// A record a long poll or finding.
    Logs,
}

impl Signal {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Metrics, Self::Traces, Self::Logs];

    /// As in the protocol's paths.
    pub fn name(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::Traces => "traces",
            Self::Logs => "logs",
        }
    }
}

/// One request.
#[derive(Clone, Debug)]
pub(super) enum Batch {
    Metrics(ExportMetricsServiceRequest),
    Traces(ExportTraceServiceRequest),
    Logs(ExportLogsServiceRequest),
}

/// What was not taken of a batch that was taken (`partial_success`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rejected {
    pub(super) count: u64,
    pub(super) why: String,
}

impl Batch {
    pub(super) fn signal(&self) -> Signal {
        match self {
            Self::Metrics(_) => Signal::Metrics,
            Self::Traces(_) => Signal::Traces,
            Self::Logs(_) => Signal::Logs,
        }
    }

    /// What is sent of one over HTTP.
    pub(super) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Metrics(request) => request.encode_to_vec(),
            Self::Traces(request) => request.encode_to_vec(),
            Self::Logs(request) => request.encode_to_vec(),
        }
    }

    /// What an answer over HTTP says. One that is none says nothing: the request was taken.
    pub(super) fn rejected(&self, answer: &[u8]) -> Rejected {
        fn decode<T: Message + Default + Into<Rejected>>(answer: &[u8]) -> Rejected {
            T::decode(answer).map_or_else(|_| Rejected::default(), Into::into)
        }
        match self {
            Self::Metrics(_) => decode::<ExportMetricsServiceResponse>(answer),
            Self::Traces(_) => decode::<ExportTraceServiceResponse>(answer),
            Self::Logs(_) => decode::<ExportLogsServiceResponse>(answer),
        }
    }
}

impl Rejected {
    fn new(count: i64, why: String) -> Self {
        let count = u64::try_from(count).unwrap_or(0);
        Self { count, why }
    }
}

/// An export of metrics counts as one, whatever is in it.
impl From<ExportMetricsServiceResponse> for Rejected {
    fn from(answer: ExportMetricsServiceResponse) -> Self {
        answer.partial_success.map_or_else(Self::default, |part| {
            Self::new(part.rejected_data_points.min(1), part.error_message)
        })
    }
}

impl From<ExportTraceServiceResponse> for Rejected {
    fn from(answer: ExportTraceServiceResponse) -> Self {
        answer.partial_success.map_or_else(Self::default, |part| {
            Self::new(part.rejected_spans, part.error_message)
        })
    }
}

impl From<ExportLogsServiceResponse> for Rejected {
    fn from(answer: ExportLogsServiceResponse) -> Self {
        answer.partial_success.map_or_else(Self::default, |part| {
            Self::new(part.rejected_log_records, part.error_message)
        })
    }
}
