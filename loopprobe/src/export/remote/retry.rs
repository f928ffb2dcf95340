//! Tries a request again where the same one may go well later on, until the session's end.

use std::{
    sync::{Arc, OnceLock},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
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

/// The session's end: until when what is left may be sent. Clones are the same end.
#[derive(Clone, Debug, Default)]
pub struct End(Arc<OnceLock<Instant>>);

/// Why a request did not go well.
#[derive(Clone, Debug, Default)]
pub struct Failure {
    /// For people.
    pub why: String,
    /// Whether the same request may go well later on.
    pub may_pass: bool,
    /// When the receiver wants it again, if it says so.
    pub after: Option<Duration>,
    /// What was answered.
    pub answer: Answer,
}

/// What was answered to a request that did not go well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Answer {
    /// Nothing: nobody was there, or not in time.
    #[default]
    Nothing,
    /// Nothing of this protocol, by somebody who took the connection.
    Foreign,
    /// That it was not taken.
    No,
}

impl End {
    /// What is left has so long from now on.
    pub(super) fn set(&self, grace: Duration) {
        let _ = self.0.set(Instant::now() + grace);
    }

    /// Makes a request, which is told how long it may take, in up to four tries.
    ///
    /// # Errors
    ///
    /// The last one's.
    pub fn retry<T>(
        &self,
        mut request: impl FnMut(Duration) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut pause = PAUSE;
        let mut left = TRIES;
        loop {
            left -= 1;
            let failure = match request(self.timeout()?) {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let wait = failure.after.unwrap_or_else(|| jittered(pause));
            let again = left > 0 && failure.may_pass;
            if !again || !self.pause(wait.min(LONGEST_PAUSE)) {
                return Err(failure);
            }
            pause *= 2;
        }
    }

    /// How long a request may take that is made now.
    fn timeout(&self) -> Result<Duration, Failure> {
        match self.left().unwrap_or(TIMEOUT).min(TIMEOUT) {
            Duration::ZERO => Err(Failure {
                why: "the session was over".to_owned(),
                ..Failure::default()
            }),
            timeout => Ok(timeout),
        }
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

/// Between half and all of it, so that many senders do not come back at once.
fn jittered(pause: Duration) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let part = now.map_or(0, |now| now.subsec_nanos() % 1_000);
    pause / 2 + pause / 2 * part / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_that_the_end_leaves_no_time_for_is_not_made() {
        let end = End::default();
        assert!(end.pause(Duration::from_millis(1)));
        end.set(Duration::from_secs(5));
        let began = Instant::now();
        assert!(!end.pause(Duration::from_secs(60)));
        assert!(began.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn what_may_pass_is_tried_four_times_and_all_else_once() {
        for (may_pass, expected) in [(true, TRIES), (false, 1)] {
            let mut tries = 0;
            let outcome: Result<(), Failure> = End::default().retry(|timeout| {
                assert_eq!(timeout, TIMEOUT);
                tries += 1;
                Err(Failure {
                    may_pass,
                    after: Some(Duration::ZERO),
                    ..Failure::default()
                })
            });
            assert!(outcome.is_err());
            assert_eq!(tries, expected);
        }
    }

    #[test]
    fn after_the_end_nothing_is_tried() {
        let end = End::default();
        end.set(Duration::ZERO);
        let outcome = end.retry(|_| -> Result<(), Failure> { panic!("tried") });
        assert_eq!(outcome.unwrap_err().why, "the session was over");
    }
}
