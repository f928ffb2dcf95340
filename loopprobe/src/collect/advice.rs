//! Advice of the runtime whose task it is.

use crate::{model::LongPoll, runtime::Runtime};

/// Lets a poll's runtime say what to do, where it has something of its own to say.
pub(super) fn advise(poll: &mut LongPoll, runtime: &dyn Runtime) {
    if let Some(diagnosis) = &mut poll.diagnosis
        && let Some(advice) = runtime.advice(diagnosis.cause)
    {
        advice.clone_into(&mut diagnosis.advice);
    }
}
