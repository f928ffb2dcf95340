//! What OpenTelemetry's protocol says, decoded with its own definitions.

mod grpc;
mod transport;

use anyhow::{Context as _, Result, ensure};
use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        trace::v1::ExportTraceServiceRequest,
    },
    common::v1::{KeyValue, any_value::Value},
    logs::v1::LogRecord,
    metrics::v1::{AggregationTemporality, Metric, metric::Data, number_data_point},
    resource::v1::Resource,
    trace::v1::Span,
};
use prost::Message as _;

pub use transport::Transport;

use crate::receiver::Sent;

/// What a receiver was sent.
#[derive(Default)]
pub struct Received {
    /// Of whom.
    pub resources: Vec<Resource>,
    /// Of all requests.
    pub spans: Vec<Span>,
    /// Of all requests.
    pub records: Vec<LogRecord>,
    /// One export each.
    pub metrics: Vec<Vec<Metric>>,
}

impl Received {
    /// Decodes requests that came over `transport`.
    ///
    /// # Errors
    /// When one is not as the protocol has it.
    pub fn of(all: &[Sent], transport: Transport) -> Result<Self> {
        let mut received = Self::default();
        for sent in all {
            ensure!(sent.header("content-type") == Some(transport.content_type()));
            received.take(sent)?;
        }
        Ok(received)
    }

    fn take(&mut self, sent: &Sent) -> Result<()> {
        match sent.url.as_str() {
            "/v1/traces" => {
                let request = ExportTraceServiceRequest::decode(sent.body.as_slice())?;
                for of_process in request.resource_spans {
                    self.resources.extend(of_process.resource);
                    let scopes = of_process.scope_spans.into_iter();
                    self.spans.extend(scopes.flat_map(|scope| scope.spans));
                }
            }
            "/v1/logs" => {
                let request = ExportLogsServiceRequest::decode(sent.body.as_slice())?;
                for of_process in request.resource_logs {
                    self.resources.extend(of_process.resource);
                    let scopes = of_process.scope_logs.into_iter();
                    self.records
                        .extend(scopes.flat_map(|scope| scope.log_records));
                }
            }
            "/v1/metrics" => {
                let request = ExportMetricsServiceRequest::decode(sent.body.as_slice())?;
                for of_process in request.resource_metrics {
                    self.resources.extend(of_process.resource);
                    let scopes = of_process.scope_metrics.into_iter();
                    self.metrics
                        .push(scopes.flat_map(|scope| scope.metrics).collect());
                }
            }
            other => anyhow::bail!("posted to {other}"),
        }
        Ok(())
    }

    /// The records of long polls that have ended.
    pub fn ended(&self) -> Vec<&LogRecord> {
        let records = self.records.iter();
        records
            .filter(|record| record.event_name == "loopprobe.long_poll")
            .collect()
    }

    /// A metric of the last export.
    ///
    /// # Errors
    /// When it has none of that name.
    pub fn last(&self, name: &str) -> Result<&Metric> {
        let metrics = self.metrics.last().context("an export")?;
        let found = metrics.iter().find(|metric| metric.name == name);
        found.with_context(|| format!("no {name} among {metrics:?}"))
    }
}

fn find<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a Value> {
    let found = attributes.iter().find(|pair| pair.key == key)?;
    found.value.as_ref()?.value.as_ref()
}

/// A text; empty if there is none.
pub fn text<'a>(attributes: &'a [KeyValue], key: &str) -> &'a str {
    match find(attributes, key) {
        Some(Value::StringValue(text)) => text,
        _ => "",
    }
}

/// A number.
pub fn number(attributes: &[KeyValue], key: &str) -> Option<u64> {
    match find(attributes, key) {
        Some(Value::IntValue(number)) => u64::try_from(*number).ok(),
        _ => None,
    }
}

/// The sum over all series of a cumulative counter.
///
/// # Errors
/// When it is none.
pub fn total(metric: &Metric) -> Result<f64> {
    let Some(Data::Sum(sum)) = &metric.data else {
        anyhow::bail!("no counter: {metric:?}");
    };
    ensure!(sum.is_monotonic);
    ensure!(sum.aggregation_temporality() == AggregationTemporality::Cumulative);
    let values = sum.data_points.iter().map(|point| match point.value {
        Some(number_data_point::Value::AsInt(n)) => n as f64,
        Some(number_data_point::Value::AsDouble(x)) => x,
        None => f64::NAN,
    });
    Ok(values.sum())
}
