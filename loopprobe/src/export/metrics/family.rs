//! A metric with all its series, before any format: what `/metrics` shows and OTLP sends is the
//! same.

use std::fmt;

use prometheus_client::{
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet},
    metrics::MetricType,
    registry::Unit,
};

/// One metric and its series.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Family {
    /// Without the endings that OpenMetrics gives it.
    pub name: &'static str,
    /// What it counts.
    pub help: &'static str,
    /// Whether its values are seconds; they are numbers of something otherwise.
    pub in_seconds: bool,
    /// Its series.
    pub data: Data,
}

/// The series of a metric, by its type.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Data {
    /// As of now.
    Gauge(Vec<Series>),
    /// Since the session began.
    Counter(Vec<Series>),
    /// Since the session began.
    Histogram(Histogram),
}

/// One series' value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Series {
    /// Names and values.
    pub labels: Vec<(&'static str, String)>,
    /// The value.
    pub value: Number,
}

/// A value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Number {
    /// Of things.
    Whole(u64),
    /// Of seconds, or a share.
    Real(f64),
}

/// How many values lie where.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Histogram {
    /// The sum of all values.
    pub sum: f64,
    /// The largest value.
    pub max: f64,
    /// The ends of all buckets but the last, which has none.
    pub ends: Vec<f64>,
    /// How many there are in each bucket: one more than `ends`.
    pub counts: Vec<u64>,
}

impl Series {
    /// The only series of a metric.
    pub(crate) fn only(value: Number) -> Vec<Self> {
        let labels = Vec::new();
        vec![Self { labels, value }]
    }

    /// One of many, by one label.
    pub(crate) fn labelled(name: &'static str, label: impl Into<String>, value: Number) -> Self {
        let labels = vec![(name, label.into())];
        Self { labels, value }
    }
}

impl Family {
    /// The name with its endings, as Prometheus has it: `loopprobe_polls_total`.
    pub(crate) fn full_name(&self) -> String {
        let unit = if self.in_seconds { "_seconds" } else { "" };
        let total = match self.data {
            Data::Counter(_) => "_total",
            Data::Gauge(_) | Data::Histogram(_) => "",
        };
        format!("{}{unit}{total}", self.name)
    }

    /// Writes it for Prometheus.
    pub(crate) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let kind = match self.data {
            Data::Gauge(_) => MetricType::Gauge,
            Data::Counter(_) => MetricType::Counter,
            Data::Histogram(_) => MetricType::Histogram,
        };
        let unit = self.in_seconds.then_some(&Unit::Seconds);
        let mut metric = encoder.encode_descriptor(self.name, self.help, unit, kind)?;
        match &self.data {
            Data::Gauge(all) | Data::Counter(all) => {
                let is_counter = matches!(self.data, Data::Counter(_));
                for series in all {
                    if series.labels.is_empty() {
                        encode(&mut metric, series.value, is_counter)?;
                    } else {
                        let mut one = metric.encode_family(&series.labels)?;
                        encode(&mut one, series.value, is_counter)?;
                    }
                }
                Ok(())
            }
            Data::Histogram(histogram) => {
                let ends = histogram.ends.iter().copied().chain([f64::MAX]);
                let buckets: Vec<_> = ends.zip(histogram.counts.iter().copied()).collect();
                let count = histogram.counts.iter().sum();
                metric.encode_histogram::<NoLabelSet>(histogram.sum, count, &buckets, None)
            }
        }
    }
}

fn encode(metric: &mut MetricEncoder<'_>, value: Number, is_counter: bool) -> fmt::Result {
    match (value, is_counter) {
        (Number::Whole(n), true) => metric.encode_counter::<NoLabelSet, _, u64>(&n, None),
        (Number::Real(x), true) => metric.encode_counter::<NoLabelSet, _, u64>(&x, None),
        (Number::Whole(n), false) => metric.encode_gauge(&n.cast_signed()),
        (Number::Real(x), false) => metric.encode_gauge(&x),
    }
}
