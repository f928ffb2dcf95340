//! Why a request over gRPC did not go well, and whether the same one may later on.

use std::error::Error;

use tonic::{Code, ConnectError, Status};
use tonic_types::StatusExt as _;

use crate::export::remote::{Answer, Failure};

/// What a status means.
pub(super) fn failure(status: &Status) -> Failure {
    let retry = status.get_details_retry_info();
    // What the receiver has said has no source: only what went wrong on the way has one.
    let on_the_way = status.source().is_some();
    Failure {
        why: sentence(status),
        may_pass: on_the_way || is_retryable(status.code(), retry.is_some()),
        after: retry.and_then(|retry| retry.retry_delay),
        answer: match on_the_way {
            false => Answer::No,
            true if causes(status).any(<dyn Error>::is::<ConnectError>) => Answer::Nothing,
            true => Answer::Foreign,
        },
    }
}

/// The codes that the OTLP specification, 1.x, says may pass (opentelemetry-proto,
/// `docs/specification.md`, "Failures" of OTLP/gRPC); all others are for good.
fn is_retryable(code: Code, has_retry_info: bool) -> bool {
    match code {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => true,
        Code::ResourceExhausted => has_retry_info,
        _ => false,
    }
}

/// The code, what is said beside it, and the first cause.
fn sentence(status: &Status) -> String {
    let mut said = format!("{:?}", status.code());
    if !status.message().is_empty() {
        said = format!("{said}: {}", status.message());
    }
    match causes(status).last().map(ToString::to_string) {
        Some(first) if !said.contains(&first) => format!("{said}: {first}"),
        _ => said,
    }
}

fn causes(status: &Status) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(status.source(), |error| (*error).source())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let again = |has_retry_info| -> Vec<i32> {
            let mut codes = (0..=16).map(Code::from);
            codes
                .by_ref()
                .filter(|code| is_retryable(*code, has_retry_info))
                .map(Into::into)
                .collect()
        };
        // CANCELLED, DEADLINE_EXCEEDED, ABORTED, OUT_OF_RANGE, UNAVAILABLE, DATA_LOSS; 8 is
        // RESOURCE_EXHAUSTED.
        assert_eq!(again(false), [1, 4, 10, 11, 14, 15]);
        assert_eq!(again(true), [1, 4, 8, 10, 11, 14, 15]);
    }

    #[test]
    fn a_receiver_may_say_when() {
        let exhausted = failure(&Status::new(Code::ResourceExhausted, "too many"));
        assert!(!exhausted.may_pass);
        assert_eq!(exhausted.why, "ResourceExhausted: too many");
        let delay = Duration::from_millis(1_500);
        let details = ErrorDetails::with_retry_info(Some(delay));
        let status = Status::with_error_details(Code::ResourceExhausted, "too many", details);
        let exhausted = failure(&status);
        assert!(exhausted.may_pass);
        assert_eq!(exhausted.after, Some(delay));
    }
}
