use std::collections::BTreeMap;

use super::{Object, PollEvidence, StackEvidence, blame::place, rules::lock};
use crate::model::{Cause, Frame};

/// What speaks for the cause, by name.
pub(crate) fn facts(
    evidence: &PollEvidence,
    cause: Cause,
    ns: u64,
    dominant: Option<&StackEvidence>,
    object: Option<&Object>,
) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    let mut fact = |name: &str, value: String| {
        facts.insert(name.to_owned(), value);
    };
    fact("ns", ns.to_string());
    if let Some(throttle) = evidence.throttle.filter(|_| cause == Cause::Throttled) {
        fact("throttled_ns", throttle.throttled_ns.to_string());
        fact("throttled_periods", throttle.periods.to_string());
    }
    let Some(found) = dominant else {
        return facts;
    };
    if let Some(syscall) = found.syscall {
        fact("syscall", syscall.name());
    }
    if let Some(function) = entry(&found.stack.frames) {
        fact("function", function);
    }
    if cause == Cause::Lock
        && let Some(kind) = lock::kind(&found.stack.frames)
    {
        fact("lock", kind.to_owned());
    }
    match object {
        Some(Object::File { path }) => fact("path", path.clone()),
        Some(Object::Socket { .. }) if cause == Cause::FileIo => {}
        Some(Object::Socket { protocol, peer }) => {
            fact("protocol", protocol.clone());
            if let Some(peer) = peer {
                fact("peer", peer.clone());
            }
        }
        Some(Object::Pipe) => fact("object", "pipe".to_owned()),
        Some(Object::Futex { holder }) => {
            if let Some(holder) = holder.filter(|_| lock::names_its_holder(&found.stack.frames)) {
                fact("holder_tid", holder.to_string());
            }
        }
        Some(Object::Other { name }) => fact("object", name.clone()),
        None => {}
    }
    facts
}

/// The function through which the user's code entered the runtime or the standard library: `std::fs::read`.
fn entry(frames: &[Frame]) -> Option<String> {
    let own = frames.iter().position(|frame| !frame.runtime)?;
    let last = frames.get(own.checked_sub(1)?)?;
    Some(last.function.clone().unwrap_or_else(|| place(last)))
}
