//! What is counted for Prometheus: times in seconds, at most 200 series by task and cause.

use std::{collections::BTreeMap, fmt};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::MetricType,
    registry::Unit,
};

use crate::{
    model::{Cause, Distribution, Event, Interval, Live, LongPoll, Lost, ProbeCost, Session},
    report::clean,
};

/// At most so many task types and causes have a series of their own; the others share one, of the task `other`.
const MAX_SERIES: usize = 200;
/// The name of those.
const OTHER: &str = "other";
/// The ends of the histogram's buckets: powers of two, 1.02 us to 17 s, which are ends of the kernel side's buckets too.
const ENDS: std::ops::RangeInclusive<u32> = 10..=34;

/// What is shown.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Labels that every series has from elsewhere.
    labels: Vec<&'static str>,
    session: Option<Session>,
    durations: Distribution,
    long_polls: BTreeMap<(String, Cause), u64>,
    blocked_ns: BTreeMap<Cause, u64>,
    lost: Lost,
    cost: Option<ProbeCost>,
    threshold_ns: Option<u64>,
    workers: usize,
    interval: Interval,
}

impl Figures {
    /// Of a session whose series have these labels from elsewhere.
    pub fn labelled(labels: Vec<&'static str>) -> Self {
        Self {
            labels,
            ..Self::default()
        }
    }

    /// Takes an event.
    pub fn event(&mut self, event: &Event) {
        match event {
            Event::Session(session) => {
                self.threshold_ns = Some(session.threshold_ns);
                self.session = Some(session.clone());
            }
            Event::LongPoll(poll) if poll.ended => self.long_poll(poll),
            Event::Notice(notice) => self.threshold_ns = notice.threshold_ns.or(self.threshold_ns),
            // With the summary the server ends too.
            Event::LongPoll(_) | Event::Interval(_) | Event::Finding(_) | Event::Summary(_) => {}
        }
    }

    /// Takes a snapshot.
    pub fn live(&mut self, live: &Live) {
        self.durations = live.durations.clone();
        self.lost = live.lost;
        self.cost = live.cost;
        self.workers = live.workers.len();
        self.interval = live.interval.clone();
    }

    fn long_poll(&mut self, poll: &LongPoll) {
        let cause = poll.diagnosis.as_ref().map_or(Cause::Unknown, |d| d.cause);
        let mut key = (clean(&poll.task.name).into_owned(), cause);
        if self.long_polls.len() >= MAX_SERIES && !self.long_polls.contains_key(&key) {
            key.0 = OTHER.to_owned();
        }
        *self.long_polls.entry(key).or_default() += 1;
        *self.blocked_ns.entry(cause).or_default() += poll.duration_ns;
    }
}

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.target(&mut encoder)?;
        self.polls(&mut encoder)?;
        self.by_cause(&mut encoder)?;
        self.health(&mut encoder)?;
        self.own(&mut encoder)
    }
}

impl Figures {
    fn target(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Some(session) = &self.session else {
            return Ok(());
        };
        let mut labels = vec![
            ("pid", session.pid.to_string()),
            ("name", clean(&session.name).into_owned()),
            ("tokio", clean(&session.tokio.join(", ")).into_owned()),
            ("loopprobe", session.version.clone()),
        ];
        let placement = session.placement.labels();
        labels.extend(placement.map(|(name, value)| (name, clean(value).into_owned())));
        labels.retain(|(name, _)| !self.labels.contains(name));
        // Not of OpenMetrics' type `info`, which tools for Prometheus' older format do not know.
        encoder
            .encode_descriptor(
                "loopprobe_target_info",
                "The process that is observed",
                None,
                MetricType::Gauge,
            )?
            .encode_family(&labels)?
            .encode_gauge(&1_i64)?;
        encoder
            .encode_descriptor(
                "loopprobe_threshold",
                "From which duration on a poll is long",
                Some(&Unit::Seconds),
                MetricType::Gauge,
            )?
            .encode_gauge(&seconds(self.threshold_ns.unwrap_or(session.threshold_ns)))?;
        encoder
            .encode_descriptor(
                "loopprobe_workers",
                "Threads that poll tasks",
                None,
                MetricType::Gauge,
            )?
            .encode_gauge(&(self.workers as i64))
    }

    fn polls(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let durations = &self.durations;
        encoder
            .encode_descriptor(
                "loopprobe_polls",
                "Polls of async tasks that have ended",
                None,
                MetricType::Counter,
            )?
            .encode_counter::<NoLabelSet, _, u64>(&durations.count, None)?;
        let ends: Vec<u64> = ENDS.map(|power| 1 << power).collect();
        let bounds = ends.iter().map(|end| seconds(*end)).chain([f64::MAX]);
        let buckets: Vec<(f64, u64)> = bounds.zip(durations.below(&ends)).collect();
        encoder
            .encode_descriptor(
                "loopprobe_poll_duration",
                "How long polls of async tasks took",
                Some(&Unit::Seconds),
                MetricType::Histogram,
            )?
            .encode_histogram::<NoLabelSet>(
                seconds(durations.total_ns),
                buckets.iter().map(|(_, count)| count).sum(),
                &buckets,
                None,
            )
    }

    fn by_cause(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut long = encoder.encode_descriptor(
            "loopprobe_long_polls",
            "Polls at or over the threshold that have ended, root futures' included",
            None,
            MetricType::Counter,
        )?;
        for ((task, cause), count) in &self.long_polls {
            let labels = [("task", task.clone()), ("cause", cause.name())].to_vec();
            long.encode_family(&labels)?
                .encode_counter::<NoLabelSet, _, u64>(count, None)?;
        }
        let mut blocked = encoder.encode_descriptor(
            "loopprobe_blocked",
            "How long those polls took",
            Some(&Unit::Seconds),
            MetricType::Counter,
        )?;
        for (cause, ns) in &self.blocked_ns {
            blocked
                .encode_family(&[("cause", cause.name())].to_vec())?
                .encode_counter::<NoLabelSet, _, u64>(&seconds(*ns), None)?;
        }
        Ok(())
    }

    /// What the loops did over the last second.
    fn health(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let interval = &self.interval;
        let mut busy = encoder.encode_descriptor(
            "loopprobe_worker_busy_ratio",
            "The share of the last second that a thread spent in polls",
            None,
            MetricType::Gauge,
        )?;
        for worker in interval.workers.iter().take(MAX_SERIES) {
            busy.encode_family(&[("worker", worker.tid.to_string())].to_vec())?
                .encode_gauge(&worker.busy)?;
        }
        if let Some(lag) = interval.driver_lag_ns {
            encoder
                .encode_descriptor(
                    "loopprobe_driver_lag",
                    "The longest time in the last second that nobody turned a driver",
                    Some(&Unit::Seconds),
                    MetricType::Gauge,
                )?
                .encode_gauge(&seconds(lag.max))?;
        }
        if let Some(tasks) = interval.active_tasks {
            encoder
                .encode_descriptor(
                    "loopprobe_active_tasks",
                    "Tasks that live",
                    None,
                    MetricType::Gauge,
                )?
                .encode_gauge(&(tasks as i64))?;
        }
        let Some(pool) = interval.pool else {
            return Ok(());
        };
        let mut threads = encoder.encode_descriptor(
            "loopprobe_blocking_pool_threads",
            "Threads of the blocking pools",
            None,
            MetricType::Gauge,
        )?;
        for (state, count) in [("busy", Some(pool.busy)), ("idle", pool.idle)] {
            if let Some(count) = count {
                threads
                    .encode_family(&[("state", state)].to_vec())?
                    .encode_gauge(&(count as i64))?;
            }
        }
        Ok(())
    }

    fn own(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut lost = encoder.encode_descriptor(
            "loopprobe_lost",
            "What was lost, skipped or cut short: docs/json.md",
            None,
            MetricType::Counter,
        )?;
        for (kind, count) in self.lost.by_kind() {
            lost.encode_family(&[("kind", kind)].to_vec())?
                .encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        let Some(cost) = &self.cost else {
            return Ok(());
        };
        let mut overhead = encoder.encode_descriptor(
            "loopprobe_overhead",
            "CPU time that observation has cost the target, by what it went to",
            Some(&Unit::Seconds),
            MetricType::Counter,
        )?;
        for (part, ns) in cost.by_part() {
            overhead
                .encode_family(&[("part", part)].to_vec())?
                .encode_counter::<NoLabelSet, _, u64>(&seconds(ns), None)?;
        }
        Ok(())
    }
}

/// The unit of OpenMetrics.
fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}
