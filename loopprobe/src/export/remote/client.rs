//! Posts to a receiver, again after a while where the same request may go well later on.

use std::{
    str::FromStr,
    sync::{Arc, OnceLock},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use ureq::{
    Agent,
    http::{HeaderName, HeaderValue},
};

/// How long a request may take: the default of OpenTelemetry's exporters
/// (`OTEL_EXPORTER_OTLP_TIMEOUT`).
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often a request is tried, and how long the first pause is; each further one is twice as
/// long.
const TRIES: u32 = 4;
const PAUSE: Duration = Duration::from_millis(500);
/// The longest pause that a receiver may ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// How often the session's end is looked for in a pause.
const LOOK: Duration = Duration::from_millis(20);
/// No answer that means anything is longer.
const LONGEST_ANSWER: u64 = 64 << 10;

/// A header of every request, for who the sender is: `name=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    name: HeaderName,
    value: HeaderValue,
}

impl FromStr for Header {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text
            .split_once('=')
            .ok_or("write NAME=VALUE, as in 'authorization=Bearer 123'")?;
        let name = HeaderName::from_bytes(name.trim().as_bytes())
            .map_err(|_| "what stands before `=` is no header's name")?;
        let mut value = HeaderValue::from_str(value.trim())
            .map_err(|_| "what stands behind `=` is no header's value")?;
        value.set_sensitive(true);
        Ok(Self { name, value })
    }
}

/// The session's end: until when what is left may be sent. Clones are the same end.
#[derive(Clone, Debug, Default)]
pub(super) struct End(Arc<OnceLock<Instant>>);

impl End {
    /// What is left has so long from now on.
    pub(super) fn set(&self, grace: Duration) {
        let _ = self.0.set(Instant::now() + grace);
    }

    /// How long there still is; `None` before the end.
    fn left(&self) -> Option<Duration> {
        let end = self.0.get()?;
        Some(end.saturating_duration_since(Instant::now()))
    }

    /// Pauses; `false`, and as soon as that is known, if there would be no time left.
    fn pause(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        loop {
            let rest = until.saturating_duration_since(Instant::now());
            if self.left().is_some_and(|left| left <= rest) {
                return false;
            }
            if rest.is_zero() {
                return true;
            }
            thread::sleep(rest.min(LOOK));
        }
    }
}

/// Posts to one receiver.
#[derive(Clone, Debug)]
pub struct Client {
    agent: Agent,
    headers: Vec<Header>,
    pub(super) end: End,
}

/// Why a request did not go well.
struct Failure {
    why: String,
    may_pass: bool,
    /// When the receiver wants it again, if it says so.
    after: Option<Duration>,
}

impl Client {
    /// Whose requests all have these headers.
    pub fn new(headers: Vec<Header>) -> Self {
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .user_agent(concat!("loopprobe/", env!("CARGO_PKG_VERSION")))
            .build();
        Self {
            agent: agent.into(),
            headers,
            end: End::default(),
        }
    }

    /// Posts `body`, in up to four tries; returns the answer's body.
    ///
    /// # Errors
    ///
    /// A sentence for people, with the URL.
    pub fn post(&self, url: &str, content_type: &str, body: &[u8]) -> Result<Vec<u8>, String> {
        let mut pause = PAUSE;
        for left in (0..TRIES).rev() {
            let failure = match self.try_once(url, content_type, body) {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let wait = failure.after.unwrap_or_else(|| jittered(pause));
            let again = left > 0 && failure.may_pass;
            if !again || !self.end.pause(wait.min(LONGEST_PAUSE)) {
                return Err(format!("{}: {}", without_query(url), failure.why));
            }
            pause *= 2;
        }
        Ok(Vec::new())
    }

    fn try_once(&self, url: &str, content_type: &str, body: &[u8]) -> Result<Vec<u8>, Failure> {
        let timeout = self.end.left().unwrap_or(TIMEOUT).min(TIMEOUT);
        if timeout.is_zero() {
            return Err(Failure {
                why: "the session was over".to_owned(),
                may_pass: false,
                after: None,
            });
        }
        let mut request = self.agent.post(url).content_type(content_type);
        for Header { name, value } in &self.headers {
            request = request.header(name, value);
        }
        let request = request.config().timeout_global(Some(timeout)).build();
        let mut response = request.send(body).map_err(|error| Failure {
            may_pass: !matches!(error, ureq::Error::BadUri(_)),
            why: error.to_string(),
            after: None,
        })?;
        let status = response.status();
        if status.is_success() {
            let answer = response.body_mut().with_config().limit(LONGEST_ANSWER);
            return Ok(answer.read_to_vec().unwrap_or_default());
        }
        let after = response.headers().get("retry-after");
        let seconds = after.and_then(|after| after.to_str().ok()?.trim().parse().ok());
        Err(Failure {
            why: status.to_string(),
            may_pass: is_retryable(status.as_u16()),
            after: seconds.map(Duration::from_secs),
        })
    }
}

/// The "Retryable Response Codes" of the OTLP specification, 1.x (opentelemetry-proto,
/// `docs/specification.md`); all others are for good.
fn is_retryable(status: u16) -> bool {
    matches!(status, 429 | 502 | 503 | 504)
}

/// Between half and all of it, so that many senders do not come back at once.
fn jittered(pause: Duration) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let part = now.map_or(0, |now| now.subsec_nanos() % 1_000);
    pause / 2 + pause / 2 * part / 1_000
}

/// A query may hold what others should not see.
fn without_query(url: &str) -> &str {
    url.split('?').next().unwrap_or(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_a_name_and_a_value() {
        let header: Header = "x-api-key = a=b".parse().unwrap();
        assert_eq!(
            (header.name.as_str(), header.value.as_bytes()),
            ("x-api-key", &b"a=b"[..])
        );
        assert!("x-api-key".parse::<Header>().is_err());
        assert!("a b=c".parse::<Header>().is_err());
        assert!("a=b\nc".parse::<Header>().is_err());
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let again: Vec<u16> = (100..600).filter(|status| is_retryable(*status)).collect();
        assert_eq!(again, [429, 502, 503, 504]);
    }

    #[test]
    fn a_pause_that_the_end_leaves_no_time_for_is_not_made() {
        let end = End::default();
        assert!(end.pause(Duration::from_millis(1)));
        end.set(Duration::from_secs(5));
        let began = Instant::now();
        assert!(!end.pause(Duration::from_secs(60)));
        assert!(began.elapsed() < Duration::from_secs(5));
    }
}
