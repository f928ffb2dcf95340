//! Posts alerts to a URL in up to three tries, in Alertmanager's form where its path says so.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use ureq::Agent;

use super::{
    Level, When,
    event::{AlertEvent, FindingEvent, Told},
};
use crate::{
    model::Placement,
    report::{clean, rfc3339, words},
};

/// How often a delivery is tried, and how long the first pause is; each further one is twice as
/// long.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(500);

/// Alertmanager's own interface, version 2.
const ALERTMANAGER_PATH: &str = "/api/v2/alerts";

/// A URL that events are posted to as JSON. Where its path is Alertmanager's, in Alertmanager's
/// form.
#[derive(Clone, Debug)]
pub struct Webhook {
    url: String,
    agent: Agent,
    is_alertmanager: bool,
}

impl Webhook {
    /// For an `http` or `https` URL. Each try may take as long as `timeout`.
    pub fn new(url: &str, timeout: Duration) -> Self {
        let path = url.split(['?', '#']).next().unwrap_or(url);
        let agent = Agent::config_builder()
            .timeout_global(Some(timeout))
            .user_agent(concat!("loopprobe/", env!("CARGO_PKG_VERSION")))
            .build();
        Self {
            url: url.to_owned(),
            agent: agent.into(),
            is_alertmanager: path.trim_end_matches('/').ends_with(ALERTMANAGER_PATH),
        }
    }

    /// Posts an event; again after a while if the other end is not there or says that it cannot
    /// now.
    pub(super) fn post(&self, event: &Told, hurry: &AtomicBool) -> Result<(), String> {
        let body = if self.is_alertmanager {
            match event {
                Told::Poll(event) => alertmanager(event),
                Told::Finding(event) => vec![one_finding(event)].into(),
            }
        } else {
            serde_json::to_value(event).map_err(|error| error.to_string())?
        };
        let body = body.to_string();
        let mut pause = PAUSE;
        for left in (0..TRIES).rev() {
            let sent = self
                .agent
                .post(&self.url)
                .content_type("application/json")
                .send(&body);
            match sent {
                Ok(_) => return Ok(()),
                Err(error) if left == 0 || !may_pass(&error) || hurry.load(Ordering::Relaxed) => {
                    return Err(format!("{}: {error}", self.url));
                }
                Err(_) => thread::sleep(pause),
            }
            pause *= 2;
        }
        Ok(())
    }
}

/// Whether the same request may go well later on.
fn may_pass(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::StatusCode(status) => *status == 429 || *status >= 500,
        ureq::Error::BadUri(_) => false,
        _ => true,
    }
}

/// An alert, as `POST /api/v2/alerts` takes it (Alertmanager's `api/v2/openapi.yaml`): the same
/// labels are the same alert, so what is not known from the beginning stands among the annotations.
/// It is over once it has an `endsAt`. One that is worse now is another alert, and ends the one
/// before.
fn alertmanager(event: &AlertEvent) -> Value {
    let is_over = event.event == When::AlertEnd || event.poll.ended;
    let mut alerts = vec![one_alert(event, event.level, is_over)];
    if let Some(before) = event.before.filter(|before| *before != event.level) {
        alerts.push(one_alert(event, before, true));
    }
    alerts.into()
}

/// A finding has no end that is told: Alertmanager ends it after its own `resolve_timeout`.
fn one_finding(event: &FindingEvent) -> Value {
    let finding = &event.finding;
    let mut alert = json!({
        "labels": {
            "alertname": "LoopprobeFinding",
            "severity": event.level.name(),
            "process": clean(&event.process),
            "pid": finding.pid.to_string(),
            "kind": finding.kind.name(),
        },
        "annotations": {
            "summary": words::finding(finding),
            "description": clean(&finding.advice),
        },
        "startsAt": rfc3339(event.unix_ns),
    });
    place(&mut alert, &event.placement);
    alert
}

/// Adds where the machine has put the process.
fn place(alert: &mut Value, placement: &Placement) {
    for (name, value) in placement.labels() {
        alert["labels"][name] = clean(value).into();
    }
}

fn one_alert(event: &AlertEvent, level: Level, is_over: bool) -> Value {
    let poll = &event.poll;
    let advice = poll.diagnosis.as_ref().map_or("", |found| &found.advice);
    let duration = Duration::from_nanos(poll.duration_ns);
    let mut alert = json!({
        "labels": {
            "alertname": "LoopprobeLongPoll",
            "severity": level.name(),
            "process": clean(&event.process),
            "pid": poll.pid.to_string(),
            "tid": poll.tid.to_string(),
            "task": event.task(),
        },
        "annotations": {
            "summary": format!("{} was blocked for {duration:.1?} ({})", event.task(), event.cause()),
            "cause": event.cause(),
            "call": event.call(),
            "description": advice,
        },
        "startsAt": rfc3339(event.start_unix_ns),
    });
    place(&mut alert, &event.placement);
    if is_over {
        alert["endsAt"] = rfc3339(event.start_unix_ns.saturating_add(poll.duration_ns)).into();
    }
    alert
}
