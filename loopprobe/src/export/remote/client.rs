//! Posts to a receiver over HTTP, again after a while where the same request may go well later on.

use std::{io, time::Duration};

use ureq::Agent;

use super::{Answer, End, Failure, Header};

/// No answer that means anything is longer.
const LONGEST_ANSWER: u64 = 64 << 10;

/// Posts to one receiver.
#[derive(Clone, Debug)]
pub struct Client {
    agent: Agent,
    headers: Vec<Header>,
    end: End,
}

impl Client {
    /// Whose requests all have these headers, until the session's end.
    pub fn new(headers: Vec<Header>, end: End) -> Self {
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .user_agent(concat!("loopprobe/", env!("CARGO_PKG_VERSION")))
            .build();
        Self {
            agent: agent.into(),
            headers,
            end,
        }
    }

    /// Posts `body`, in up to four tries; returns the answer's body.
    ///
    /// # Errors
    ///
    /// Why it was not taken: a sentence for people, with the URL.
    pub fn post(&self, url: &str, content_type: &str, body: &[u8]) -> Result<Vec<u8>, Failure> {
        let outcome = self
            .end
            .retry(|timeout| self.try_once(url, content_type, body, timeout));
        outcome.map_err(|failure| Failure {
            why: format!("{}: {}", without_query(url), failure.why),
            ..failure
        })
    }

    fn try_once(
        &self,
        url: &str,
        content_type: &str,
        body: &[u8],
        timeout: Duration,
    ) -> Result<Vec<u8>, Failure> {
        let mut request = self.agent.post(url).content_type(content_type);
        for Header { name, value } in &self.headers {
            request = request.header(name, value);
        }
        let request = request.config().timeout_global(Some(timeout)).build();
        let mut response = request.send(body).map_err(|error| Failure {
            may_pass: !matches!(error, ureq::Error::BadUri(_)),
            answer: answer(&error),
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
            answer: Answer::No,
        })
    }
}

/// The "Retryable Response Codes" of the OTLP specification, 1.x (opentelemetry-proto,
/// `docs/specification.md`); all others are for good.
fn is_retryable(status: u16) -> bool {
    matches!(status, 429 | 502 | 503 | 504)
}

/// What was there instead of an answer.
fn answer(error: &ureq::Error) -> Answer {
    match error {
        ureq::Error::Protocol(_) => Answer::Foreign,
        ureq::Error::Io(error) => match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe => Answer::Foreign,
            _ => Answer::Nothing,
        },
        _ => Answer::Nothing,
    }
}

/// A query may hold what others should not see.
fn without_query(url: &str) -> &str {
    url.split('?').next().unwrap_or(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let again: Vec<u16> = (100..600).filter(|status| is_retryable(*status)).collect();
        assert_eq!(again, [429, 502, 503, 504]);
    }
}
