//! Gathers spans and records, and sends them each second; metrics as often as was asked for.

use std::{io, time::Duration};

use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        trace::v1::ExportTraceServiceRequest,
    },
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    metrics::v1::{ResourceMetrics, ScopeMetrics},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};

use super::{
    address::Address,
    attributes::{resource, scope},
    batch::{Batch, Signal},
    long_poll::{self, Told},
    metrics::{Stretch, metric},
    transport::Transport,
};
use crate::{
    export::{
        alert::Rules,
        metrics::Figures,
        remote::{Counts, End, Exporter, Header},
    },
    model::{Due, Event, Finding, Live, LongPoll, Session, Sink},
    report::{EachOnce, WallClock},
};

/// How often spans and records are sent, and how old figures may be.
const EVERY: Duration = Duration::from_secs(1);
/// So many spans, and as many records, are sent at once.
const BATCH: usize = 512;
/// What is sent, as it is counted.
const SPAN: &str = "span";
const RECORD: &str = "log record";
const METRICS: &str = "metrics export";

/// What is sent where.
#[derive(Clone, Debug)]
pub struct Options {
    /// The receiver.
    pub address: Address,
    /// Of every request.
    pub headers: Vec<Header>,
    /// How often metrics are sent.
    pub every: Duration,
    /// What.
    pub signals: Vec<Signal>,
    /// How bad which poll is.
    pub rules: Rules,
}

/// A sink that sends a session's events and figures.
pub fn exporter(options: Options) -> Exporter {
    let (end, counts) = (End::default(), Counts::default());
    let sink = Otlp {
        transport: Transport::new(&options.address, options.headers.clone(), end.clone()),
        counts: counts.clone(),
        options,
        session: None,
        figures: Figures::default(),
        open: EachOnce::default(),
        spans: Vec::new(),
        records: Vec::new(),
        metrics_due: Due::default(),
        unix_ns: 0,
    };
    Exporter::new("otlp", sink, counts, end)
}

struct Otlp {
    transport: Transport,
    counts: Counts,
    options: Options,
    session: Option<(Session, Resource)>,
    figures: Figures,
    /// Polls that have not ended.
    open: EachOnce,
    spans: Vec<Span>,
    records: Vec<LogRecord>,
    metrics_due: Due,
    /// When the figures were so.
    unix_ns: u64,
}

impl Sink for Otlp {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        self.figures.event(event);
        match event {
            Event::Session(session) => {
                self.unix_ns = session.start_unix_ns;
                self.session = Some((session.clone(), resource(session)));
            }
            Event::LongPoll(poll) => self.poll(poll),
            Event::Finding(finding) => self.finding(finding),
            Event::Notice(notice) => {
                if let Some(threshold_ns) = notice.threshold_ns {
                    self.options.rules.follow(threshold_ns);
                }
            }
            Event::Interval(_) => {}
            Event::Summary(_) => {
                for poll in self.open.rest() {
                    self.add_span(&poll);
                }
                self.flush();
                self.send_metrics();
            }
        }
        if self.spans.len().max(self.records.len()) >= BATCH {
            self.flush();
        }
        Ok(())
    }

    fn live_every(&self) -> Option<Duration> {
        Some(EVERY)
    }

    fn live(&mut self, live: &Live) -> io::Result<()> {
        self.figures.live(live);
        if let Some((session, _)) = &self.session {
            self.unix_ns = WallClock::of(session).unix_ns(live.time_ns);
        }
        self.flush();
        if self.metrics_due.take(live.time_ns, self.options.every) {
            self.send_metrics();
        }
        Ok(())
    }
}

impl Otlp {
    fn sends(&self, signal: Signal) -> bool {
        self.options.signals.contains(&signal)
    }

    /// One that is open has a record when it is first seen, and another one and its span at its
    /// end.
    fn poll(&mut self, poll: &LongPoll) {
        let is_first = !self.open.knows(poll);
        if self.open.settle(poll).is_some() {
            self.add_span(poll);
            self.add_record(poll);
        } else if is_first {
            self.add_record(poll);
        }
    }

    fn add_span(&mut self, poll: &LongPoll) {
        if let (true, Some((session, _))) = (self.sends(Signal::Traces), &self.session) {
            self.spans.push(Told::new(poll, session).span());
            self.counts.expect(SPAN, 1);
        }
    }

    fn add_record(&mut self, poll: &LongPoll) {
        if let (true, Some((session, _))) = (self.sends(Signal::Logs), &self.session) {
            let level = self.options.rules.level(poll);
            self.records.push(Told::new(poll, session).record(level));
            self.counts.expect(RECORD, 1);
        }
    }

    fn finding(&mut self, finding: &Finding) {
        if let (true, Some((session, _))) = (self.sends(Signal::Logs), &self.session) {
            let level = self.options.rules.level_of(finding);
            let record = long_poll::finding(finding, session, level);
            self.records.push(record);
            self.counts.expect(RECORD, 1);
        }
    }

    /// Sends what has been gathered.
    fn flush(&mut self) {
        let spans = std::mem::take(&mut self.spans);
        if !spans.is_empty() {
            let count = spans.len();
            let request = self.trace_request(spans);
            self.send(SPAN, count, &Batch::Traces(request));
        }
        let records = std::mem::take(&mut self.records);
        if !records.is_empty() {
            let count = records.len();
            let request = self.logs_request(records);
            self.send(RECORD, count, &Batch::Logs(request));
        }
    }

    fn send_metrics(&mut self) {
        let Some((session, resource)) = &self.session else {
            return;
        };
        if !self.sends(Signal::Metrics) {
            return;
        }
        let stretch = Stretch {
            start_unix_ns: session.start_unix_ns,
            unix_ns: self.unix_ns,
        };
        let families = self.figures.families();
        let metrics = families.iter().filter_map(|family| metric(family, stretch));
        let request = ExportMetricsServiceRequest {
            resource_metrics: vec![ResourceMetrics {
                resource: Some(resource.clone()),
                scope_metrics: vec![ScopeMetrics {
                    scope: Some(scope()),
                    metrics: metrics.collect(),
                    ..ScopeMetrics::default()
                }],
                ..ResourceMetrics::default()
            }],
        };
        self.counts.expect(METRICS, 1);
        self.send(METRICS, 1, &Batch::Metrics(request));
    }

    fn resource(&self) -> Option<Resource> {
        self.session.as_ref().map(|(_, resource)| resource.clone())
    }

    fn trace_request(&self, spans: Vec<Span>) -> ExportTraceServiceRequest {
        ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: self.resource(),
                scope_spans: vec![ScopeSpans {
                    scope: Some(scope()),
                    spans,
                    ..ScopeSpans::default()
                }],
                ..ResourceSpans::default()
            }],
        }
    }

    fn logs_request(&self, log_records: Vec<LogRecord>) -> ExportLogsServiceRequest {
        ExportLogsServiceRequest {
            resource_logs: vec![ResourceLogs {
                resource: self.resource(),
                scope_logs: vec![ScopeLogs {
                    scope: Some(scope()),
                    log_records,
                    ..ScopeLogs::default()
                }],
                ..ResourceLogs::default()
            }],
        }
    }

    /// Sends `count` of a kind, and counts what became of them.
    fn send(&mut self, kind: &'static str, count: usize, batch: &Batch) {
        let count = count as u64;
        match self.transport.export(batch) {
            Err(why) => self.counts.lost(kind, count, why),
            Ok(rejected) => {
                let refused = rejected.count.min(count);
                self.counts.sent(kind, count - refused);
                self.counts.lost(kind, refused, rejected.why);
            }
        }
    }
}
