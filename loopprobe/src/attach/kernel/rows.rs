//! Elements of a table that several targets share: which are free.

use std::collections::VecDeque;

/// The elements of one table.
#[derive(Debug)]
pub(super) struct Rows {
    size: u32,
    /// From here on none has ever been taken.
    next: u32,
    /// Taken before and given back, the one that was given back first in front: a program that has
    /// read its number a moment ago may still use it.
    free: VecDeque<u32>,
}

impl Rows {
    /// All elements of a table of this size.
    pub(super) fn new(size: u32) -> Self {
        Self {
            size,
            next: 0,
            free: VecDeque::new(),
        }
    }

    /// How many are free.
    pub(super) fn left(&self) -> usize {
        (self.size - self.next) as usize + self.free.len()
    }

    /// Takes one; `None` if all are taken.
    pub(super) fn take(&mut self) -> Option<u32> {
        if self.next < self.size {
            self.next += 1;
            return Some(self.next - 1);
        }
        self.free.pop_front()
    }

    /// Gives elements back.
    pub(super) fn give_back(&mut self, rows: impl IntoIterator<Item = u32>) {
        self.free.extend(rows);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_ones_come_first_and_then_the_one_that_has_been_free_longest() {
        let mut rows = Rows::new(3);
        assert_eq!((rows.take(), rows.take()), (Some(0), Some(1)));
        rows.give_back([1, 0]);
        assert_eq!(rows.left(), 3);
        let taken: Vec<_> = std::iter::from_fn(|| rows.take()).collect();
        assert_eq!(taken, [2, 1, 0]);
        assert_eq!(rows.left(), 0);
    }
}
