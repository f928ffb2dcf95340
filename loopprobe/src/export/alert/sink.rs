//! Remembers which open polls have alerted, and tells when one gets worse or ends.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{
    Counts, Filter, Level, OnAlert, Webhook, When,
    deliveries::{Channel, Deliveries},
    event::{AlertEvent, FindingEvent, Told},
    rate::Rate,
};
use crate::{
    model::{Event, Finding, LongPoll, Session, Sink},
    report::WallClock,
};

/// How long the end of a session waits for alerts that are under way.
const GRACE: Duration = Duration::from_secs(5);

/// What alerts there are to be.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which polls.
    pub filter: Filter,
    /// Run when a poll passes a level.
    pub on_alert: Option<OnAlert>,
    /// Run when that poll is over.
    pub on_alert_end: Option<OnAlert>,
    /// Posted to, both times.
    pub webhook: Option<Webhook>,
    /// How many polls a minute may alert.
    pub a_minute: u32,
}

/// Which polls alert; clones change the same sink's.
#[derive(Clone, Debug)]
pub struct Rules(Arc<Mutex<Filter>>);

impl Rules {
    /// By this filter.
    pub fn new(filter: Filter) -> Self {
        Self(Arc::new(Mutex::new(filter)))
    }

    /// From now on by this filter. A poll that has alerted has its end all the same.
    pub fn set(&self, mut filter: Filter) {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        filter.succeed(&current);
        *current = filter;
    }

    /// The session's threshold is another one from now on.
    pub(in crate::export) fn follow(&self, threshold_ns: u64) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .follow(Duration::from_nanos(threshold_ns));
    }

    /// How bad a poll is; `None` if it is not bad enough, or not meant.
    pub(in crate::export) fn level(&self, poll: &LongPoll) -> Option<Level> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .level(poll)
    }

    /// The same of a finding.
    pub(in crate::export) fn level_of(&self, finding: &Finding) -> Option<Level> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .level_of(finding)
    }
}

/// The sink that alerts.
#[derive(Debug)]
pub struct Alerts {
    rules: Rules,
    at_alert: Vec<Channel>,
    at_end: Vec<Channel>,
    rate: Rate,
    counts: Counts,
    /// From the session's head on: by then loopprobe has given up the rights that the probes took.
    deliveries: Option<Deliveries>,
    session: Option<Session>,
    /// The polls that have alerted and not ended, with their level.
    open: HashMap<Key, Level>,
}

/// A poll: its thread, and when it began.
type Key = (u32, u64);

impl Alerts {
    /// Alerts as `options` say.
    pub fn new(options: Options) -> Self {
        let webhook = options.webhook.map(|w| Channel::Webhook(Arc::new(w)));
        let channels = |command: Option<OnAlert>| {
            let command = command.map(|c| Channel::Command(Arc::new(c)));
            command.into_iter().chain(webhook.clone()).collect()
        };
        Self {
            rules: Rules::new(options.filter),
            at_alert: channels(options.on_alert),
            at_end: channels(options.on_alert_end),
            rate: Rate::new(options.a_minute),
            counts: Counts::default(),
            deliveries: None,
            session: None,
            open: HashMap::new(),
        }
    }

    /// What has become of them, also once the sink is gone.
    pub fn counts(&self) -> Counts {
        self.counts.clone()
    }

    /// Which polls alert, to be changed while it runs.
    pub fn rules(&self) -> Rules {
        self.rules.clone()
    }

    fn poll(&mut self, poll: &LongPoll) {
        let key = (poll.tid, poll.start_ns);
        let before = self.open.get(&key).copied();
        let now = self.rules.level(poll);
        if now > before {
            let may = before.is_some() || self.rate.take(poll.start_ns + poll.duration_ns);
            match now {
                Some(level) if may => {
                    self.open.insert(key, level);
                    self.deliver(When::Alert, level, before, poll);
                }
                // An open one is told of again.
                _ if !poll.ended => {}
                _ => {
                    let missed = self.at_alert.len() as u64;
                    self.counts.add(|tally| tally.over_rate += missed);
                }
            }
        }
        if poll.ended
            && let Some(level) = self.open.remove(&key)
        {
            self.deliver(When::AlertEnd, level, Some(level), poll);
        }
    }

    fn deliver(&self, event: When, level: Level, before: Option<Level>, poll: &LongPoll) {
        let (Some(deliveries), Some(session)) = (&self.deliveries, &self.session) else {
            return;
        };
        let told = Told::Poll(Box::new(AlertEvent {
            kind: "alert",
            event,
            level,
            before,
            process: session.name.clone(),
            placement: session.placement.clone(),
            start_unix_ns: WallClock::of(session).unix_ns(poll.start_ns),
            poll: poll.clone(),
        }));
        let channels = match event {
            When::AlertEnd => &self.at_end,
            When::Alert | When::Finding => &self.at_alert,
        };
        let told = Arc::new(told);
        for channel in channels {
            deliveries.add(channel, &told);
        }
    }

    fn finding(&mut self, finding: &Finding) {
        let Some(level) = self.rules.level_of(finding) else {
            return;
        };
        if !self.rate.take(finding.time_ns) {
            let missed = self.at_alert.len() as u64;
            self.counts.add(|tally| tally.over_rate += missed);
            return;
        }
        let (Some(deliveries), Some(session)) = (&self.deliveries, &self.session) else {
            return;
        };
        let told = Arc::new(Told::Finding(Box::new(FindingEvent {
            kind: "finding",
            event: When::Finding,
            level,
            process: session.name.clone(),
            placement: session.placement.clone(),
            unix_ns: WallClock::of(session).unix_ns(finding.time_ns),
            finding: finding.clone(),
        })));
        for channel in &self.at_alert {
            deliveries.add(channel, &told);
        }
    }
}

impl Sink for Alerts {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        match event {
            Event::Session(session) => {
                self.session = Some(session.clone());
                self.deliveries = Some(Deliveries::start(self.counts.clone())?);
            }
            Event::LongPoll(poll) => self.poll(poll),
            Event::Finding(finding) => self.finding(finding),
            Event::Notice(notice) => {
                if let Some(threshold_ns) = notice.threshold_ns {
                    self.rules.follow(threshold_ns);
                }
            }
            Event::Interval(_) => {}
            Event::Summary(_) => {
                if let Some(deliveries) = self.deliveries.take() {
                    deliveries.finish(GRACE);
                }
            }
        }
        Ok(())
    }
}
