//! Long polls that the kernel side counts otherwise than they are reported: those of root futures,
//! those that are open at the end, and those that had ended earlier than it knew.

use std::collections::HashMap;

use crate::model::TaskType;

/// By task type.
#[derive(Clone, Debug, Default)]
pub(super) struct Corrections {
    types: HashMap<TaskType, Correction>,
}

/// What is to be added to and taken off the kernel side's counts of one type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Correction {
    more: u64,
    more_ns: u64,
    fewer: u64,
    fewer_ns: u64,
    /// The longest of the polls that are added, in nanoseconds.
    pub max_ns: u64,
}

impl Corrections {
    /// A long poll that the kernel side does not count.
    pub(super) fn add(&mut self, task: &TaskType, duration_ns: u64) {
        let correction = self.of(task);
        correction.more += 1;
        correction.lengthen(duration_ns, duration_ns);
    }

    /// A long poll that the kernel side counts as `by_ns` shorter than its `duration_ns`.
    pub(super) fn lengthen(&mut self, task: &TaskType, duration_ns: u64, by_ns: u64) {
        self.of(task).lengthen(duration_ns, by_ns);
    }

    /// A poll that the kernel side counts as long with `counted_ns`, and that was not.
    pub(super) fn remove(&mut self, task: &TaskType, counted_ns: u64) {
        let correction = self.of(task);
        correction.fewer += 1;
        correction.fewer_ns += counted_ns;
    }

    /// A long poll that the kernel side counts as `by_ns` longer than it was.
    pub(super) fn shorten(&mut self, task: &TaskType, by_ns: u64) {
        self.of(task).fewer_ns += by_ns;
    }

    /// What there is of a type, if anything. It is not given a second time.
    pub(super) fn take(&mut self, task: &TaskType) -> Correction {
        self.types.remove(task).unwrap_or_default()
    }

    /// What has not been taken.
    pub(super) fn rest(self) -> impl Iterator<Item = (TaskType, Correction)> {
        self.types.into_iter()
    }

    fn of(&mut self, task: &TaskType) -> &mut Correction {
        self.types.entry(task.clone()).or_default()
    }
}

impl Correction {
    fn lengthen(&mut self, duration_ns: u64, by_ns: u64) {
        self.more_ns += by_ns;
        self.max_ns = self.max_ns.max(duration_ns);
    }

    /// The number of long polls for a number that the kernel side has.
    pub(super) fn polls(&self, counted: u64) -> u64 {
        (counted + self.more).saturating_sub(self.fewer)
    }

    /// The same for their total, in nanoseconds.
    pub(super) fn ns(&self, counted_ns: u64) -> u64 {
        (counted_ns + self.more_ns).saturating_sub(self.fewer_ns)
    }
}
