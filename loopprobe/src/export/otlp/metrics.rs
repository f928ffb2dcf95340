//! The metrics of `/metrics` as OTLP has them: cumulative, with the same names and buckets.

use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, Sum,
    metric, number_data_point::Value,
};

use super::attributes::text;
use crate::export::metrics::{self, Data, Family, Number, Series};

/// The stretch of time that counters cover, in nanoseconds since the Unix epoch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stretch {
    /// Since when they count.
    pub start_unix_ns: u64,
    /// Up to when.
    pub unix_ns: u64,
}

/// One metric; `None` if it has no series.
///
/// It has the name that Prometheus knows it by, endings included: a Prometheus that takes OTLP
/// makes the very same name of that.
pub(super) fn metric(family: &Family, stretch: Stretch) -> Option<Metric> {
    let data = match &family.data {
        Data::Gauge(series) if series.is_empty() => return None,
        Data::Counter(series) if series.is_empty() => return None,
        Data::Gauge(series) => metric::Data::Gauge(Gauge {
            data_points: points(series, stretch),
        }),
        Data::Counter(series) => metric::Data::Sum(Sum {
            data_points: points(series, stretch),
            aggregation_temporality: AggregationTemporality::Cumulative.into(),
            is_monotonic: true,
        }),
        Data::Histogram(histogram) => metric::Data::Histogram(Histogram {
            data_points: vec![buckets(histogram, stretch)],
            aggregation_temporality: AggregationTemporality::Cumulative.into(),
        }),
    };
    Some(Metric {
        name: family.full_name(),
        description: family.help.to_owned(),
        // One that is no second is no unit: `1` would make a share of it.
        unit: if family.in_seconds { "s" } else { "" }.to_owned(),
        data: Some(data),
        ..Metric::default()
    })
}

fn points(series: &[Series], stretch: Stretch) -> Vec<NumberDataPoint> {
    let point = |series: &Series| NumberDataPoint {
        attributes: series
            .labels
            .iter()
            .map(|(name, value)| text(name, value))
            .collect(),
        start_time_unix_nano: stretch.start_unix_ns,
        time_unix_nano: stretch.unix_ns,
        value: Some(match series.value {
            Number::Whole(n) => Value::AsInt(i64::try_from(n).unwrap_or(i64::MAX)),
            Number::Real(x) => Value::AsDouble(x),
        }),
        ..NumberDataPoint::default()
    };
    series.iter().map(point).collect()
}

fn buckets(histogram: &metrics::Histogram, stretch: Stretch) -> HistogramDataPoint {
    let count = histogram.counts.iter().sum();
    HistogramDataPoint {
        start_time_unix_nano: stretch.start_unix_ns,
        time_unix_nano: stretch.unix_ns,
        count,
        sum: Some(histogram.sum),
        bucket_counts: histogram.counts.clone(),
        explicit_bounds: histogram.ends.clone(),
        max: (count > 0).then_some(histogram.max),
        ..HistogramDataPoint::default()
    }
}
