//! Long polls that the kernel side counts otherwise than they are reported: those of root futures,
//! those that are open at the end, and those that had ended earlier than it knew.

use std::collections::HashMap;

use crate::model::TaskType;

/// By task type.
#[derive(Clone, Debug, Default)]
pub(super) struct Corrections {
    types: HashMap<TaskType, Correction>,
    /// The longest poll that the kernel side counts as shorter, in nanoseconds.
    pub longest_ns: u64,
}

/// What is to be added to and taken off the kernel side's counts of one type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Correction {
    more: u64,
    more_ns: u64,
    fewer: u64,
    fewer_ns: u64,
    /// What the polls that are counted took more than they are counted as, in nanoseconds.
    total_more_ns: i64,
    /// The longest of the polls that are added, in nanoseconds.
    pub max_ns: u64,
}

impl Corrections {
    /// A long poll that the kernel side does not count. It is in no total.
    pub(super) fn add(&mut self, task: &TaskType, duration_ns: u64) {
        let correction = self.of(task);
        correction.more += 1;
        correction.more_ns += duration_ns;
        correction.max_ns = correction.max_ns.max(duration_ns);
    }

    /// A long poll that the kernel side counts as one of `counted_ns`, which is not long.
    pub(super) fn find_long(&mut self, task: &TaskType, duration_ns: u64, counted_ns: u64) {
        self.add(task, duration_ns);
        let by_ns = duration_ns.saturating_sub(counted_ns);
        self.of(task).total_more_ns += by_ns.cast_signed();
        self.longest_ns = self.longest_ns.max(duration_ns);
    }

    /// A long poll that the kernel side counts as `by_ns` shorter than its `duration_ns`.
    pub(super) fn lengthen(&mut self, task: &TaskType, duration_ns: u64, by_ns: u64) {
        let correction = self.of(task);
        correction.more_ns += by_ns;
        correction.total_more_ns += by_ns.cast_signed();
        correction.max_ns = correction.max_ns.max(duration_ns);
        self.longest_ns = self.longest_ns.max(duration_ns);
    }

    /// A poll that the kernel side counts as long with `counted_ns`, and that was not: it took
    /// `duration_ns`.
    pub(super) fn remove(&mut self, task: &TaskType, counted_ns: u64, duration_ns: u64) {
        let correction = self.of(task);
        correction.fewer += 1;
        correction.fewer_ns += counted_ns;
        correction.total_more_ns -= counted_ns.saturating_sub(duration_ns).cast_signed();
    }

    /// A long poll that the kernel side counts as `by_ns` longer than it was.
    pub(super) fn shorten(&mut self, task: &TaskType, by_ns: u64) {
        let correction = self.of(task);
        correction.fewer_ns += by_ns;
        correction.total_more_ns -= by_ns.cast_signed();
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
    /// The number of long polls for a number that the kernel side has.
    pub(super) fn polls(&self, counted: u64) -> u64 {
        (counted + self.more).saturating_sub(self.fewer)
    }

    /// The same for their total, in nanoseconds.
    pub(super) fn ns(&self, counted_ns: u64) -> u64 {
        (counted_ns + self.more_ns).saturating_sub(self.fewer_ns)
    }

    /// What all polls that are counted took, long or not, in nanoseconds.
    pub(super) fn total_ns(&self, counted_ns: u64) -> u64 {
        counted_ns.saturating_add_signed(self.total_more_ns)
    }
}
