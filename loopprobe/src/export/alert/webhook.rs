use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use ureq::Agent;

use super::{When, event::AlertEvent};

/// How often a delivery is tried, and how long the first pause is; each further one is twice as long.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(500);

/// Alertmanager's own interface, version 2.
const ALERTMANAGER_PATH: &str = "/api/v2/alerts";

/// A URL that events are posted to as JSON. Where its path is Alertmanager's, in Alertmanager's form.
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

    /// Posts an event; again after a while if the other end is not there or says that it cannot now.
    pub(super) fn post(&self, event: &AlertEvent, hurry: &AtomicBool) -> Result<(), String> {
        let body = if self.is_alertmanager {
            alertmanager(event)
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

/// One alert, as `POST /api/v2/alerts` takes them (Alertmanager's `api/v2/openapi.yaml`). It is over once it has an `endsAt`.
fn alertmanager(event: &AlertEvent) -> Value {
    let poll = &event.poll;
    let diagnosis = poll.diagnosis.as_ref();
    let environment = event.environment();
    let field = |name: &str| {
        let found = environment.iter().find(|(own, _)| *own == name);
        found.map_or_else(String::new, |(_, value)| value.clone())
    };
    let duration = Duration::from_nanos(poll.duration_ns);
    let mut alert = json!({
        "labels": {
            "alertname": "LoopprobeLongPoll",
            "severity": event.level.name(),
            "process": event.process,
            "pid": field("LOOPPROBE_PID"),
            "task": field("LOOPPROBE_TASK"),
            "cause": field("LOOPPROBE_CAUSE"),
            "call": field("LOOPPROBE_CALL"),
        },
        "annotations": {
            "summary": format!(
                "{} was blocked for {duration:.1?} ({})",
                field("LOOPPROBE_TASK"),
                field("LOOPPROBE_CAUSE")
            ),
            "description": diagnosis.map_or("", |found| &found.advice),
        },
        "startsAt": rfc3339(event.start_unix_ns),
    });
    if event.event == When::AlertEnd || poll.ended {
        alert["endsAt"] = rfc3339(event.start_unix_ns.saturating_add(poll.duration_ns)).into();
    }
    json!([alert])
}

fn rfc3339(unix_ns: u64) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_ns))
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_default()
}
