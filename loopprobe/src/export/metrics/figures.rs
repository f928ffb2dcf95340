//! What is counted for monitoring: times in seconds, at most 200 series by task and cause.

use std::{collections::BTreeMap, fmt};

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};

use super::family::{Data, Family, Histogram, Number, Series};
use crate::{
    model::{
        Budget, Canary, Cause, Coverage, Distribution, Event, Interval, Live, LongPoll, Lost, Mode,
        ProbeCost, Session, Step,
    },
    report::clean,
};

/// At most so many task types and causes have a series of their own; the others share one, of the
/// task `other`.
const MAX_SERIES: usize = 200;
/// The name of those.
const OTHER: &str = "other";
/// The ends of the histogram's buckets: powers of two, 1.02 us to 17 s, which are ends of the
/// kernel side's buckets too.
const ENDS: std::ops::RangeInclusive<u32> = 10..=34;

/// What is shown.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    /// Labels that every series has from elsewhere.
    labels: Vec<&'static str>,
    session: Option<Session>,
    durations: Distribution,
    possible: Option<u64>,
    long_polls: BTreeMap<(String, Cause), u64>,
    blocked_ns: BTreeMap<Cause, u64>,
    lost: Lost,
    cost: Option<ProbeCost>,
    canary: Option<Canary>,
    budget: Option<Budget>,
    coverage: Option<Coverage>,
    threshold_ns: Option<u64>,
    workers: usize,
    interval: Interval,
}

impl Figures {
    /// Of a session whose series have these labels from elsewhere.
    pub(crate) fn labelled(labels: Vec<&'static str>) -> Self {
        Self {
            labels,
            ..Self::default()
        }
    }

    /// Takes an event.
    pub(crate) fn event(&mut self, event: &Event) {
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
    pub(crate) fn live(&mut self, live: &Live) {
        self.durations = live.durations.clone();
        self.possible = live.possible;
        self.lost = live.lost;
        self.cost = live.cost;
        self.canary.clone_from(&live.canary);
        self.coverage = live.coverage;
        self.budget = live.budget;
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
        let mut families = self.families().into_iter();
        families.try_for_each(|family| family.encode(&mut encoder))
    }
}

impl Figures {
    /// All metrics.
    pub(crate) fn families(&self) -> Vec<Family> {
        let mut families = self.target();
        if self.is_counted() {
            families.extend([self.workers(), self.polls(), self.poll_duration()]);
        }
        families.extend(self.possible());
        families.extend(self.by_cause());
        families.extend(self.health());
        families.extend(self.own());
        families.extend(self.proof());
        families.extend(self.kept_budget());
        families
    }

    /// Whether each poll is counted; else figures of all polls are left out.
    fn is_counted(&self) -> bool {
        let mode = self.session.as_ref().and_then(|session| session.mode);
        mode.is_none_or(Mode::counts_polls)
    }

    fn possible(&self) -> Option<Family> {
        let possible = self.possible.filter(|_| !self.is_counted())?;
        Some(counter(
            "loopprobe_possible_long_polls",
            "How often a poll may have been long, but is not for certain",
            Series::only(Number::Whole(possible)),
        ))
    }

    fn workers(&self) -> Family {
        gauge(
            "loopprobe_workers",
            "Threads that poll tasks",
            Series::only(Number::Whole(self.workers as u64)),
        )
    }

    fn target(&self) -> Vec<Family> {
        let Some(session) = &self.session else {
            return Vec::new();
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
        let threshold_ns = self.threshold_ns.unwrap_or(session.threshold_ns);
        vec![
            // Not of OpenMetrics' type `info`, which tools for Prometheus' older format do not
            // know.
            gauge(
                "loopprobe_target_info",
                "The process that is observed",
                vec![Series {
                    labels,
                    value: Number::Whole(1),
                }],
            ),
            gauge_in_seconds(
                "loopprobe_threshold",
                "From which duration on a poll is long",
                threshold_ns,
            ),
        ]
    }

    fn polls(&self) -> Family {
        counter(
            "loopprobe_polls",
            "Polls of async tasks that have ended",
            Series::only(Number::Whole(self.durations.count)),
        )
    }

    fn poll_duration(&self) -> Family {
        let durations = &self.durations;
        let ends: Vec<u64> = ENDS.map(|power| 1 << power).collect();
        Family {
            name: "loopprobe_poll_duration",
            help: "How long polls of async tasks took",
            in_seconds: true,
            data: Data::Histogram(Histogram {
                sum: seconds(durations.total_ns),
                max: seconds(durations.max_ns),
                counts: durations.below(&ends),
                ends: ends.into_iter().map(seconds).collect(),
            }),
        }
    }

    fn by_cause(&self) -> [Family; 2] {
        let long = self.long_polls.iter().map(|((task, cause), count)| Series {
            labels: vec![("task", task.clone()), ("cause", cause.name())],
            value: Number::Whole(*count),
        });
        let blocked = self
            .blocked_ns
            .iter()
            .map(|(cause, ns)| Series::labelled("cause", cause.name(), Number::Real(seconds(*ns))));
        [
            counter(
                "loopprobe_long_polls",
                "Polls at or over the threshold that have ended, root futures' included",
                long.collect(),
            ),
            Family {
                in_seconds: true,
                ..counter(
                    "loopprobe_blocked",
                    "How long those polls took",
                    blocked.collect(),
                )
            },
        ]
    }

    /// What the loops did over the last second.
    fn health(&self) -> Vec<Family> {
        let interval = &self.interval;
        let busy = interval.workers.iter().take(MAX_SERIES).map(|worker| {
            Series::labelled("worker", worker.tid.to_string(), Number::Real(worker.busy))
        });
        let mut families = Vec::new();
        if self.is_counted() {
            families.push(gauge(
                "loopprobe_worker_busy_ratio",
                "The share of the last second that a thread spent in polls",
                busy.collect(),
            ));
        }
        let driver_lag_ns = interval.driver_lag_ns.filter(|_| self.is_counted());
        families.extend(driver_lag_ns.map(|lag| {
            gauge_in_seconds(
                "loopprobe_driver_lag",
                "The longest time in the last second that nobody turned a driver",
                lag.max,
            )
        }));
        families.extend(interval.wake_to_poll.map(|delays| {
            gauge_in_seconds(
                "loopprobe_wake_to_poll",
                "The longest time in the last second from a task's wake to its poll",
                delays.max_ns,
            )
        }));
        families.extend(interval.active_tasks.map(|tasks| {
            gauge(
                "loopprobe_active_tasks",
                "Tasks that live",
                Series::only(Number::Whole(tasks)),
            )
        }));
        let pool = interval.pool.filter(|_| self.is_counted());
        families.extend(pool.map(|pool| {
            let states = [("busy", Some(pool.busy)), ("idle", pool.idle)];
            let threads = states.into_iter().filter_map(|(state, count)| {
                Some(Series::labelled("state", state, Number::Whole(count?)))
            });
            gauge(
                "loopprobe_blocking_pool_threads",
                "Threads of the blocking pools",
                threads.collect(),
            )
        }));
        families
    }

    /// What tells silence from blindness. Before the first check there is nothing to tell.
    fn proof(&self) -> Vec<Family> {
        let mut families = Vec::new();
        if let Some((canary, ok)) = self.canary.as_ref().and_then(|c| Some((c, c.ok?))) {
            let results = [
                ("ok", canary.checks - canary.failed),
                ("failed", canary.failed),
            ];
            let results = results
                .map(|(result, count)| Series::labelled("result", result, Number::Whole(count)));
            families.push(gauge(
                "loopprobe_canary_ok",
                "Whether the last known block in loopprobe's own process came out with its stack and cause",
                Series::only(Number::Whole(u64::from(ok))),
            ));
            families.push(counter(
                "loopprobe_canary_checks",
                "Known blocks in loopprobe's own process, by whether they came out",
                results.to_vec(),
            ));
        }
        families.extend(self.coverage.map(|coverage| {
            let states = [
                ("fired", coverage.sites_fired),
                ("silent", coverage.sites - coverage.sites_fired),
            ];
            let states =
                states.map(|(state, n)| Series::labelled("state", state, Number::Whole(n)));
            gauge(
                "loopprobe_sites",
                "Probed poll sites, by whether they were seen to fire",
                states.to_vec(),
            )
        }));
        families.extend(self.coverage.map(|coverage| {
            gauge(
                "loopprobe_root_future_covered",
                "Whether futures given to block_on are covered",
                Series::only(Number::Whole(u64::from(coverage.root_future))),
            )
        }));
        families
    }

    fn kept_budget(&self) -> Vec<Family> {
        let Some(budget) = self.budget else {
            return Vec::new();
        };
        let is_at = |step: Step| {
            let value = Number::Whole(u64::from(step == budget.step));
            Series::labelled("step", step.name(), value)
        };
        let left_out = (budget.left_out())
            .map(|(what, ns)| Series::labelled("what", what, Number::Real(seconds(ns))));
        vec![
            gauge(
                "loopprobe_budget_step",
                "How much is observed to keep to --max-overhead: 1 for the step that holds",
                Step::ALL.map(is_at).to_vec(),
            ),
            Family {
                in_seconds: true,
                ..counter(
                    "loopprobe_left_out",
                    "How long something was not looked at, to keep to --max-overhead",
                    left_out.to_vec(),
                )
            },
        ]
    }

    fn own(&self) -> Vec<Family> {
        let lost = self.lost.by_kind().into_iter();
        let lost = lost.map(|(kind, count)| Series::labelled("kind", kind, Number::Whole(count)));
        let mut families = vec![counter(
            "loopprobe_lost",
            "What was lost, skipped or cut short: docs/json.md",
            lost.collect(),
        )];
        families.extend(self.cost.map(|cost| {
            let parts = cost
                .by_part()
                .map(|(part, ns)| Series::labelled("part", part, Number::Real(seconds(ns))));
            Family {
                in_seconds: true,
                ..counter(
                    "loopprobe_overhead",
                    "CPU time that observation has cost the target, by what it went to",
                    parts.to_vec(),
                )
            }
        }));
        families
    }
}

fn gauge(name: &'static str, help: &'static str, series: Vec<Series>) -> Family {
    Family {
        name,
        help,
        in_seconds: false,
        data: Data::Gauge(series),
    }
}

fn gauge_in_seconds(name: &'static str, help: &'static str, ns: u64) -> Family {
    Family {
        in_seconds: true,
        ..gauge(name, help, Series::only(Number::Real(seconds(ns))))
    }
}

fn counter(name: &'static str, help: &'static str, series: Vec<Series>) -> Family {
    Family {
        name,
        help,
        in_seconds: false,
        data: Data::Counter(series),
    }
}

/// The unit of OpenMetrics.
fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

#[cfg(test)]
mod tests;
