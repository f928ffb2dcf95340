//! The details that the script shows of a chosen poll, as JSON with each name kept once.

use std::collections::HashMap;

use serde::Serialize;

use crate::model::{LongPoll, StackKind};

use super::{
    super::{
        label::{frame_name, leaf_name},
        units, words,
    },
    escape,
    gather::Gathered,
};

/// What the script shows of a poll that is chosen. Names are kept once.
#[derive(Default, Serialize)]
struct Data {
    names: Vec<String>,
    polls: Vec<Poll>,
}

#[derive(Serialize)]
struct Poll {
    task: usize,
    worker: String,
    duration: String,
    at: String,
    cause: &'static str,
    call: Option<usize>,
    advice: Option<usize>,
    ended: bool,
    /// What the cause rests on: a name and a value each.
    facts: Vec<[usize; 2]>,
    stacks: Vec<Stack>,
}

#[derive(Serialize)]
struct Stack {
    what: usize,
    time: String,
    frames: Vec<Frame>,
}

/// A frame's name, its place in the source, and whether it is the runtime's.
#[derive(Serialize)]
struct Frame(usize, Option<usize>, bool);

/// The shown polls as JSON for a script element.
pub(super) fn json(gathered: &Gathered) -> serde_json::Result<String> {
    let start_ns = gathered.session().map_or(0, |session| session.start_ns);
    let mut builder = Builder::default();
    for poll in gathered.polls() {
        let poll = builder.poll(poll, start_ns);
        builder.data.polls.push(poll);
    }
    Ok(escape::json(&serde_json::to_string(&builder.data)?))
}

#[derive(Default)]
struct Builder {
    data: Data,
    ids: HashMap<String, usize>,
}

impl Builder {
    fn poll(&mut self, poll: &LongPoll, start_ns: u64) -> Poll {
        let diagnosis = poll.diagnosis.as_ref();
        let call = diagnosis.and_then(|diagnosis| diagnosis.call.as_ref());
        let stacks = poll.stacks.iter().map(|stack| Stack {
            what: self.name(&leaf_name(poll, stack)),
            time: match stack.kind {
                // A sample's share depends on the others; its own number would claim too much.
                StackKind::OnCpu => "sampled".to_owned(),
                _ => units::ns(stack.ns),
            },
            frames: stack
                .frames
                .iter()
                .map(|frame| {
                    let place = frame.location.as_ref().map(words::place);
                    Frame(
                        self.name(&frame_name(frame)),
                        place.map(|place| self.name(&place)),
                        frame.runtime,
                    )
                })
                .collect(),
        });
        let stacks = stacks.collect();
        let evidence = diagnosis.iter().flat_map(|diagnosis| &diagnosis.evidence);
        // How long the deciding stretch was, without a unit: the stack says it better.
        let facts = evidence
            .filter(|(name, _)| *name != "ns")
            .map(|(name, value)| [self.name(name), self.name(value)])
            .collect();
        Poll {
            task: self.name(&poll.task.name),
            worker: format!("{} {}", poll.thread, poll.tid),
            duration: units::ns(poll.duration_ns),
            at: units::ns(poll.start_ns.saturating_sub(start_ns)),
            cause: diagnosis.map_or("unknown", |diagnosis| words::cause(diagnosis.cause)),
            call: call.map(|call| self.name(&call.function)),
            advice: diagnosis
                .filter(|diagnosis| !diagnosis.advice.is_empty())
                .map(|diagnosis| self.name(&diagnosis.advice)),
            ended: poll.ended,
            facts,
            stacks,
        }
    }

    fn name(&mut self, name: &str) -> usize {
        if let Some(&id) = self.ids.get(name) {
            return id;
        }
        let id = self.data.names.len();
        self.data.names.push(name.to_owned());
        self.ids.insert(name.to_owned(), id);
        id
    }
}
