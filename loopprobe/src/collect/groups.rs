//! Long polls by task type, cause and blocking call.

use std::collections::HashMap;

use crate::model::{Cause, FoundPoll, Group, LongPoll};

/// Groups kept at most; long polls of further ones are only in the totals.
const MAX_GROUPS: usize = 10_000;

/// Sums over a session.
#[derive(Clone, Debug, Default)]
pub(super) struct Groups(HashMap<(String, Cause, Option<String>), Group>);

impl Groups {
    /// Adds a poll that has ended.
    pub(super) fn add(&mut self, poll: &LongPoll) {
        let Some(diagnosis) = &poll.diagnosis else {
            return;
        };
        let call = diagnosis.call.as_ref().map(|call| call.function.clone());
        let key = (poll.task.name.clone(), diagnosis.cause, call);
        if self.0.len() >= MAX_GROUPS && !self.0.contains_key(&key) {
            return;
        }
        let group = self
            .0
            .entry(key)
            .or_insert_with_key(|(task, cause, call)| Group {
                task: task.clone(),
                cause: *cause,
                call: call.clone(),
                location: diagnosis
                    .call
                    .as_ref()
                    .and_then(|call| call.location.clone()),
                count: 0,
                total_ns: 0,
                max_ns: 0,
                waits: None,
            });
        group.count += 1;
        group.total_ns += poll.duration_ns;
        group.max_ns = group.max_ns.max(poll.duration_ns);
    }

    /// A task waited behind a poll that has been added, for so long of it.
    pub(super) fn waited(&mut self, poll: &FoundPoll, ns: u64) {
        let Some(cause) = poll.cause else {
            return;
        };
        let key = (poll.task.clone(), cause, poll.call.clone());
        if let Some(group) = self.0.get_mut(&key) {
            let waits = group.waits.get_or_insert_default();
            waits.count += 1;
            waits.total_ns += ns;
        }
    }

    /// Worst first.
    pub(super) fn ranked(self) -> Vec<Group> {
        let mut groups: Vec<Group> = self.0.into_values().collect();
        groups.sort_by(|a, b| {
            b.total_ns
                .cmp(&a.total_ns)
                .then_with(|| a.task.cmp(&b.task))
        });
        groups
    }
}
