//! Walks along the lists of tasks while they change.
//!
//! New tasks come to a list's front, and a task that has ended is taken out from anywhere; both of
//! its links are then empty (`LinkedList::push_front` and `remove` in
//! `tokio/src/util/linked_list.rs`, 1.23 to 1.54). So each step is checked by the link back, and
//! where it fails the walk goes back to the last task that still is a member.

use std::{sync::Arc, time::Instant};

use super::{
    header::{Header, WORDS},
    layout::{Layout, Layouts},
};
use crate::{elf::ProcAddr, process::Memory};

/// How often a walk of one list goes back.
const MAX_RETURNS: usize = 20_000;
/// Tasks on one list.
const MAX_NODES: usize = 1 << 23;

/// A task on a list.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Its header.
    pub header: Header,
    prev: u64,
    next: u64,
}

/// Where a list is kept: two words, its first and its last task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    /// The address of the first word.
    pub at: ProcAddr,
}

/// Whose list it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Membership {
    /// The number of the owner.
    pub owner: u64,
    /// Bytes from the trailer to the links.
    pub links: u64,
}

/// What a walk found.
#[derive(Debug, Default)]
pub(super) struct Walked {
    /// The tasks, in the list's order.
    pub nodes: Vec<Node>,
    /// Whether the walk came to the end.
    pub is_whole: bool,
}

/// Walks along lists.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    memory: &'a Memory,
    layouts: &'a Layouts,
    deadline: Instant,
    /// The last task's type: the next one's is mostly the same.
    guess: Option<Arc<Layout>>,
}

impl<'a> Walk<'a> {
    /// Prepares walks, which end at `deadline`.
    pub(super) fn new(memory: &'a Memory, layouts: &'a Layouts, deadline: Instant) -> Self {
        Self {
            memory,
            layouts,
            deadline,
            guess: layouts.any().cloned(),
        }
    }

    /// Whether the time is up.
    pub(super) fn is_late(&self) -> bool {
        Instant::now() > self.deadline
    }

    /// Reads the first and the last task of a list.
    pub(super) fn ends(&self, ends: Ends) -> Option<(u64, u64)> {
        let mut words = [0; 2];
        let read = self.memory.places(&[(ends.at, 2)], &mut words);
        (read == 1).then_some((words[0], words[1]))
    }

    /// The tasks of one list.
    pub(super) fn list(&mut self, ends: Ends, of: Membership) -> Walked {
        let mut walked = Walked::default();
        let Some((mut next, _)) = self.ends(ends) else {
            return walked;
        };
        let mut returns = 0;
        while walked.nodes.len() < MAX_NODES {
            if next == 0 && self.is_end(ends, &walked.nodes) {
                walked.is_whole = true;
                break;
            }
            let first = walked.nodes.first().map(|node| node.header.address.0);
            let before = walked.nodes.last().map(|node| node.header.address.0);
            let node = match next != 0 && first != Some(next) {
                true => self.node(ProcAddr(next), of),
                false => None,
            };
            // The first task may have got another one before it by now.
            let is_linked = |node: &Node| before.is_none_or(|before| node.prev == before);
            match node.filter(is_linked) {
                Some(node) => {
                    next = node.next;
                    walked.nodes.push(node);
                }
                None => {
                    returns += 1;
                    let is_late = returns % 64 == 0 && self.is_late();
                    if returns == MAX_RETURNS || is_late {
                        break;
                    }
                    let was_last = next == 0;
                    next = self.go_back(ends, of, &mut walked.nodes);
                    if was_last && next == 0 && !self.is_end(ends, &walked.nodes) {
                        // The end of another list: the first task has ended, and a new one on that
                        // list has its place.
                        walked.nodes.clear();
                        next = self.ends(ends).map_or(0, |(first, _)| first);
                    }
                }
            }
            if walked.nodes.len() % 4096 == 1 && self.is_late() {
                break;
            }
        }
        walked
    }

    /// Whether the list ends with the last one of these tasks.
    fn is_end(&self, ends: Ends, nodes: &[Node]) -> bool {
        let last = nodes.last().map_or(0, |node| node.header.address.0);
        self.ends(ends).is_some_and(|(_, tail)| tail == last)
    }

    /// Drops the tasks that are no longer members, up to one that is, and says which one follows it
    /// now.
    fn go_back(&mut self, ends: Ends, of: Membership, nodes: &mut Vec<Node>) -> u64 {
        while let Some(last) = nodes.pop() {
            let before = nodes.last().map(|node| node.header.address.0);
            let Some(again) = self.node(last.header.address, of) else {
                continue;
            };
            let is_member = match before {
                Some(before) => again.prev == before,
                None => again.prev != 0 || self.is_first(ends, &again),
            };
            if is_member {
                let next = again.next;
                nodes.push(again);
                return next;
            }
        }
        self.ends(ends).map_or(0, |(first, _)| first)
    }

    fn is_first(&self, ends: Ends, node: &Node) -> bool {
        self.ends(ends)
            .is_some_and(|(first, _)| first == node.header.address.0)
    }

    /// The task at an address, if it belongs to this owner.
    pub(super) fn node(&mut self, address: ProcAddr, of: Membership) -> Option<Node> {
        if !address.0.is_multiple_of(8) {
            return None;
        }
        let guess = Arc::clone(self.guess.as_ref()?);
        let (words, node) = self.read(address, &guess, of.links)?;
        let layout = self.layouts.at(words[2])?;
        let node = match Arc::ptr_eq(layout, &guess) {
            true => node?,
            false => {
                let (again, node) = self.read(address, layout, of.links)?;
                self.guess = Some(Arc::clone(layout));
                node.filter(|_| again[2] == words[2])?
            }
        };
        (node.header.owner == of.owner && !node.header.layout.is_blocking).then_some(node)
    }

    /// Reads a header, and a whole task if its type is this one.
    fn read(
        &self,
        address: ProcAddr,
        layout: &Arc<Layout>,
        links: u64,
    ) -> Option<([u64; WORDS], Option<Node>)> {
        let at = |offset: u64| address.0.checked_add(offset).map(ProcAddr);
        let places = [
            (address, WORDS),
            (at(layout.scheduler)?, 1),
            (at(layout.id)?, 1),
            (at(layout.trailer + links)?, 2),
        ];
        let mut words = [0; WORDS + 4];
        let read = self.memory.places(&places, &mut words);
        let first = *words.first_chunk::<WORDS>().filter(|_| read >= 1)?;
        let [.., scheduler, id, prev, next] = words;
        let node = (read == places.len()).then(|| Node {
            header: Header::from_words(address, layout, first, scheduler, id),
            prev,
            next,
        });
        Some((first, node))
    }

    /// The task at an address, if its neighbours say that it is a member of a list. A task that is
    /// alone has none.
    pub(super) fn linked(&mut self, address: ProcAddr) -> Option<Node> {
        let header = Header::read_many(self.memory, self.layouts, &[address]).pop()?;
        let of = Membership {
            owner: header.owner,
            links: 0,
        };
        let node = self.node(address, of)?;
        let mut agrees = |other: u64, back: fn(&Node) -> u64| {
            other == 0
                || self
                    .node(ProcAddr(other), of)
                    .is_some_and(|other| back(&other) == address.0)
        };
        let is_member = (node.prev, node.next) != (0, 0)
            && agrees(node.prev, |before| before.next)
            && agrees(node.next, |after| after.prev);
        is_member.then_some(node)
    }

    /// Whether these two may be the ends of one list.
    pub(super) fn are_ends(&mut self, first: u64, last: u64, of: Membership) -> bool {
        if self.is_late() {
            return false;
        }
        if first == 0 || last == 0 {
            return first == last;
        }
        let is_alone = first == last;
        // Two words of a trailer that are no links may both be 0, which only one task alone has.
        let begins = |node: Node| node.prev == 0 && (is_alone || node.next != 0);
        let ends = |node: Node| node.next == 0 && (is_alone || node.prev != 0);
        self.node(ProcAddr(first), of).is_some_and(begins)
            && self.node(ProcAddr(last), of).is_some_and(ends)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const VTABLE: u64 = 0x7777_0000;
    const OF: Membership = Membership { owner: 9, links: 0 };

    /// Tasks in this process's own memory: eight words of each, then the links.
    struct Tasks(Vec<[u64; 10]>);

    impl Tasks {
        /// A whole list of so many.
        fn linked(count: usize) -> Self {
            let mut tasks = Self(vec![[0; 10]; count]);
            for index in 0..count {
                let prev = index.checked_sub(1).map_or(0, |before| tasks.at(before));
                let next = if index + 1 < count {
                    tasks.at(index + 1)
                } else {
                    0
                };
                let id = index as u64 + 1;
                tasks.0[index] = [0x84, 0, VTABLE, OF.owner, 0, id, 0, 0, prev, next];
            }
            tasks
        }

        fn at(&self, index: usize) -> u64 {
            &raw const self.0[index] as u64
        }

        /// The ids that a walk finds, and whether it was whole.
        fn walked(&self, ends: [u64; 2]) -> (Vec<u64>, bool) {
            let layouts = Layouts::of_one(VTABLE, 64);
            let memory = Memory::of(std::process::id());
            let deadline = Instant::now() + Duration::from_secs(5);
            let mut walk = Walk::new(&memory, &layouts, deadline);
            let at = ProcAddr(ends.as_ptr() as u64);
            let walked = walk.list(Ends { at }, OF);
            let ids = walked.nodes.iter().map(|node| node.header.id).collect();
            (ids, walked.is_whole)
        }
    }

    #[test]
    fn a_list_is_walked_from_its_first_to_its_last() {
        let tasks = Tasks::linked(4);
        assert_eq!(
            tasks.walked([tasks.at(0), tasks.at(3)]),
            (vec![1, 2, 3, 4], true)
        );
        assert_eq!(tasks.walked([0, 0]), (vec![], true));
    }

    #[test]
    fn a_list_that_does_not_fit_together_is_not_whole() {
        // It ends before its last one.
        let tasks = Tasks::linked(4);
        assert!(!tasks.walked([tasks.at(0), 0x1238]).1);
        // A task of another owner is on it.
        let mut tasks = Tasks::linked(4);
        tasks.0[2][3] = OF.owner + 1;
        assert!(!tasks.walked([tasks.at(0), tasks.at(3)]).1);
        // It leads into nothing.
        let mut tasks = Tasks::linked(4);
        tasks.0[3][9] = 0x1238;
        assert!(!tasks.walked([tasks.at(0), tasks.at(3)]).1);
    }

    #[test]
    fn a_circle_ends() {
        let mut tasks = Tasks::linked(4);
        tasks.0[3][9] = tasks.at(0);
        tasks.0[0][8] = tasks.at(3);
        assert!(!tasks.walked([tasks.at(0), tasks.at(3)]).1);
        let mut tasks = Tasks::linked(4);
        tasks.0[3][9] = tasks.at(1);
        assert!(!tasks.walked([tasks.at(0), tasks.at(3)]).1);
    }
}
