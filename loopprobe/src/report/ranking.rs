//! Sums long polls of one task type, cause and call into rows, most total time first.

use std::collections::HashMap;

use crate::model::{Blocked, Cause, LongPoll, SourceLocation};

/// Long polls of one task type with one cause in one call: a row of a ranked table.
#[derive(Clone, Debug)]
pub struct Row {
    /// The task type's name.
    pub task: String,
    /// Where the task type is defined.
    pub location: Option<SourceLocation>,
    /// Why.
    pub cause: Cause,
    /// The blocking call.
    pub call: Option<Blocked>,
    /// What to do; empty where nothing was diagnosed.
    pub advice: String,
    /// How many polls.
    pub count: u64,
    /// Their total, in nanoseconds.
    pub total_ns: u64,
    /// The longest, in nanoseconds.
    pub max_ns: u64,
}

/// Ranks long polls by what blocked them. Wants each poll once.
#[derive(Debug, Default)]
pub struct Ranking {
    rows: HashMap<Key, Row>,
}

/// What polls of one row have in common: task type, cause and blocking call.
pub type Key = (String, Cause, Option<String>);

/// The row that a poll belongs to.
pub fn key(poll: &LongPoll) -> Key {
    let diagnosis = poll.diagnosis.as_ref();
    let call = diagnosis.and_then(|diagnosis| diagnosis.call.as_ref());
    (
        poll.task.name.clone(),
        diagnosis.map_or(Cause::Unknown, |diagnosis| diagnosis.cause),
        call.map(|call| call.function.clone()),
    )
}

impl Ranking {
    /// Counts a poll.
    pub fn add(&mut self, poll: &LongPoll) {
        let key = key(poll);
        let row = self.rows.entry(key).or_insert_with(|| Row::of(poll));
        row.count += 1;
        row.total_ns = row.total_ns.saturating_add(poll.duration_ns);
        row.max_ns = row.max_ns.max(poll.duration_ns);
    }

    /// The rows, most total time first.
    pub fn rows(&self) -> Vec<&Row> {
        let mut rows: Vec<_> = self.rows.values().collect();
        rows.sort_by(|a, b| {
            let by_name = || (&a.task, a.cause).cmp(&(&b.task, b.cause));
            b.total_ns.cmp(&a.total_ns).then_with(by_name)
        });
        rows
    }

    /// The rows by what their polls have in common.
    pub fn by_key(&self) -> &HashMap<Key, Row> {
        &self.rows
    }
}

impl Row {
    fn of(poll: &LongPoll) -> Self {
        let diagnosis = poll.diagnosis.as_ref();
        Self {
            task: poll.task.name.clone(),
            location: poll.task.location.clone(),
            cause: diagnosis.map_or(Cause::Unknown, |diagnosis| diagnosis.cause),
            call: diagnosis.and_then(|diagnosis| diagnosis.call.clone()),
            advice: diagnosis.map_or_else(String::new, |diagnosis| diagnosis.advice.clone()),
            count: 0,
            total_ns: 0,
            max_ns: 0,
        }
    }
}
