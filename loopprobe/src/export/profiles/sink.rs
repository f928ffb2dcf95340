//! Folds long polls, and pushes a profile of those that ended since the one before.

use std::{fmt::Write as _, io, time::Duration};

use crate::{
    export::remote::{Client, Counts, End, Exporter, Header},
    model::{Due, Event, Live, Session, Sink},
    report::{Fold, Pprof, WallClock},
};

/// How often a session is asked for its time.
const EVERY: Duration = Duration::from_secs(1);
/// What is sent, as it is counted.
const PROFILE: &str = "profile";

/// What is sent where.
#[derive(Clone, Debug)]
pub struct Options {
    /// The receiver, with or without `/ingest`.
    pub url: String,
    /// Of every request.
    pub headers: Vec<Header>,
    /// How long a profile covers.
    pub every: Duration,
}

/// A sink that pushes profiles.
pub fn exporter(options: Options) -> Exporter {
    let (end, counts) = (End::default(), Counts::default());
    let sink = Profiles {
        client: Client::new(options.headers, end.clone()),
        counts: counts.clone(),
        url: endpoint(&options.url),
        every: options.every,
        fold: Fold::default(),
        due: Due::default(),
        from_unix_ns: 0,
    };
    Exporter::new("profiles", sink, counts, end)
}

struct Profiles {
    client: Client,
    counts: Counts,
    url: String,
    every: Duration,
    fold: Fold,
    due: Due,
    /// When the profile begins that is being gathered.
    from_unix_ns: u64,
}

impl Sink for Profiles {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        self.fold.event(event);
        match event {
            Event::Session(session) => {
                self.from_unix_ns = session.start_unix_ns;
                // The first is due after the first interval.
                self.due.take(session.start_ns, self.every);
                Ok(())
            }
            Event::Summary(summary) => {
                let start = self.fold.session.as_ref().map(|head| head.start_unix_ns);
                let end = start.unwrap_or(self.from_unix_ns) + summary.duration_ns;
                self.push(end)
            }
            _ => Ok(()),
        }
    }

    fn live_every(&self) -> Option<Duration> {
        Some(EVERY)
    }

    fn live(&mut self, live: &Live) -> io::Result<()> {
        if live.is_last || !self.due.take(live.time_ns, self.every) {
            return Ok(());
        }
        match &self.fold.session {
            Some(session) => self.push(WallClock::of(session).unix_ns(live.time_ns)),
            None => Ok(()),
        }
    }
}

impl Profiles {
    /// Sends what has been gathered, if that is anything, and begins anew.
    fn push(&mut self, until_unix_ns: u64) -> io::Result<()> {
        let from_unix_ns = std::mem::replace(&mut self.from_unix_ns, until_unix_ns);
        let Some(session) = &self.fold.session else {
            return Ok(());
        };
        if self.fold.polls == 0 {
            return Ok(());
        }
        let duration_ns = until_unix_ns.saturating_sub(from_unix_ns);
        let body = Pprof::of_stretch(&self.fold, from_unix_ns, duration_ns)?;
        let url = format!(
            "{}?name={}&from={}&until={}&format=pprof&spyName=loopprobe",
            self.url,
            encoded(&name(session)),
            from_unix_ns / 1_000_000_000,
            until_unix_ns.div_ceil(1_000_000_000),
        );
        self.counts.expect(PROFILE, 1);
        match self.client.post(&url, "binary/octet-stream", &body) {
            Ok(_) => self.counts.sent(PROFILE, 1),
            Err(failure) => self.counts.lost(PROFILE, 1, failure.why),
        }
        self.fold.restart();
        Ok(())
    }
}

fn endpoint(url: &str) -> String {
    let url = url.trim_end_matches('/');
    if url.ends_with("/ingest") {
        url.to_owned()
    } else {
        format!("{url}/ingest")
    }
}

/// The application with its labels: `api{pid=1234,unit=api.service}`. What Pyroscope's parser gives
/// a meaning to, or refuses in an application's name, is an underscore instead.
fn name(session: &Session) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_.-/".contains(c);
    let application: String = session
        .name
        .chars()
        .map(|c| if is_plain(c) { c } else { '_' })
        .collect();
    let application = match application.as_str() {
        "" => "_",
        name => name,
    };
    let mut labels = format!("pid={}", session.pid);
    for (key, value) in session.placement.labels() {
        let value = value.replace(|c: char| ",{}=".contains(c) || c.is_control(), "_");
        let _ = write!(labels, ",{key}={value}");
    }
    format!("{application}{{{labels}}}")
}

/// Fit for a query.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Placement;

    #[test]
    fn a_name_has_the_labels_and_nothing_that_the_parser_takes_for_more() {
        let mut session: Session = serde_json::from_value(serde_json::json!({
            "schema": 1, "version": "1", "pid": 7, "name": "my api{x}", "start_ns": 0, "start_unix_ns": 0,
            "threshold_ns": 1, "sites": 1, "task_types": 1, "tokio": [], "limits": [],
        }))
        .unwrap();
        session.placement = Placement {
            unit: Some("a,b}.service".to_owned()),
            ..Placement::default()
        };
        assert_eq!(name(&session), "my_api_x_{pid=7,unit=a_b_.service}");
        session.name.clear();
        assert!(name(&session).starts_with("_{"));
    }

    #[test]
    fn a_query_is_encoded() {
        assert_eq!(encoded("a{pid=7}"), "a%7Bpid%3D7%7D");
    }

    #[test]
    fn the_path_is_added_once() {
        for url in [
            "http://a:4040",
            "http://a:4040/",
            "http://a:4040/ingest",
            "http://a:4040/ingest/",
        ] {
            assert_eq!(endpoint(url), "http://a:4040/ingest");
        }
    }
}
