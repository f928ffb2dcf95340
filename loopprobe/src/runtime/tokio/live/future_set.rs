//! A set of futures that are polled only when woken, known by its shape in memory.
//!
//! `FuturesUnordered` of futures-util 0.3 (`src/stream/futures_unordered`), which is also in
//! `join_all` and `try_join_all` of more than 30, `FuturesOrdered`, `buffered`, `buffer_unordered`
//! and `for_each_concurrent`. Each future lies in a member, an `Arc<Task>`, which is the data of
//! the waker that the future is polled with. A member points weakly to the set's queue, an
//! `Arc<ReadyToRunQueue>` with
//!
//! - the waker of who polled the set last, in an `AtomicWaker` (a state, and the waker, of which
//!   only the data is left once it was called);
//! - head and tail of the members that have been woken and not been polled since: each leads to the
//!   next one;
//! - the stub, a member without a future that points to no queue (a dangling `Weak`: all bits set).
//!
//! The compiler chooses the order of the fields, and the future lies between them. So all orders of
//! a queue are tried, and one is right if its stub and its ends are members. A member points to its
//! queue in the word in which the stub has a dangling `Weak`, in which members at the queue's ends
//! do point to it, and in which as many do as there are weak references.

use super::around::{Around, is_pointer, words};
use crate::{elf::ProcAddr, process::Memory};

/// Words of a queue's allocation: two counts, and the four fields.
const WORDS: i64 = 8;
/// Words of the counts before an `Arc`'s value.
const COUNTS: i64 = 2;
/// Which words of an `AtomicWaker` the data, the vtable and the state are.
const WAKERS: [[i64; 3]; 4] = [[1, 0, 2], [0, 1, 2], [2, 1, 0], [1, 2, 0]];
/// Words of a member that are looked at: with its future it is not larger, or it is not found.
const MEMBER_WORDS: usize = 4096;
/// Words of the stub that look like a dangling `Weak`; what lies behind it in memory may have more.
const MAX_LINKS: usize = 16;
/// More references than a queue or a member has.
const MAX_COUNT: u64 = 1 << 32;
/// Members of a queue that are walked along, for all words in which they may lead to the next one.
const MAX_STEPS: usize = 1 << 16;

/// A set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FutureSet {
    /// Its queue: what members point to.
    pub queue: u64,
    /// The data of the waker of who polled it last.
    pub polled_by: u64,
    /// How many members it has, as its references tell.
    count: usize,
    stub: u64,
    /// The head and the tail, or the tail and the head.
    ends: [u64; 2],
    /// In which words a member may point to the queue.
    links: Vec<u64>,
}

impl FutureSet {
    /// The set that was polled with the waker whose data word is at the place that this is around.
    /// `None` also if there are two that it may be. `is_vtable` says whether there is the vtable of
    /// a waker at an address.
    pub(super) fn at(
        memory: &Memory,
        around: &Around,
        is_vtable: impl Fn(u64) -> bool,
    ) -> Option<Self> {
        let mut found: Vec<Self> = Vec::new();
        for [data, vtable, state] in WAKERS {
            for block in COUNTS..=WORDS - 3 {
                let data = block + data;
                let word = |field: i64| around.word(field - data);
                let vtable = word(block + vtable);
                let are_counts = is_count(word(0)) && is_count(word(1));
                let is_waker = word(block + state) == 0 && (vtable == 0 || is_vtable(vtable));
                if !are_counts || !is_waker {
                    continue;
                }
                let others = (COUNTS..WORDS).filter(|field| !(block..block + 3).contains(field));
                let others: Vec<u64> = others.map(word).collect();
                let (queue, count) = (around.at(-data).0, word(1) as usize - 1);
                let set = Self::of(memory, [queue, word(data)], count, &others);
                // Which of two empty words is the vtable makes no difference.
                found.extend(set.filter(|set| !found.contains(set)));
            }
        }
        match found.as_slice() {
            [set] => Some(set.clone()),
            _ => None,
        }
    }

    /// The set with these three fields beside the waker, in any order.
    fn of(
        memory: &Memory,
        [queue, polled_by]: [u64; 2],
        count: usize,
        others: &[u64],
    ) -> Option<Self> {
        let &[first, second, third] = others else {
            return None;
        };
        let orders = [
            (first, [second, third]),
            (second, [first, third]),
            (third, [first, second]),
        ];
        let mut found = orders.into_iter().filter_map(|(stub, ends)| {
            let are_pointers = is_pointer(stub) && ends.into_iter().all(is_pointer);
            // Nobody but the queue refers to it.
            let is_stub = are_pointers && counts(memory, stub) == Some([1, 1]);
            let stub = stub + 8 * COUNTS as u64;
            let is_end = |end: u64| end == stub || is_member(memory, end);
            (is_stub && ends.into_iter().all(is_end)).then_some((stub, ends))
        });
        let ((stub, ends), None) = (found.next()?, found.next()) else {
            return None;
        };
        let links = links(memory, queue, stub, ends);
        (!links.is_empty()).then_some(Self {
            queue,
            polled_by,
            count,
            stub,
            ends,
            links,
        })
    }

    /// The members, of all places that hold a pointer to the queue; none where they cannot be told.
    /// Of the words in which all members may point to it the first one is the right one: what is
    /// further behind a place than that lies before the member.
    pub(super) fn members(&self, memory: &Memory, places: &[ProcAddr]) -> Vec<u64> {
        let of_link = |link: &u64| -> Vec<u64> {
            let starts = places.iter().map(|place| place.0.wrapping_sub(8 * link));
            let is_one = |start: &u64| *start != self.stub && is_member(memory, *start);
            starts.filter(is_one).collect()
        };
        let mut found = self.links.iter().map(of_link);
        let all = found.find(|members| members.len() >= self.count);
        all.filter(|_| self.count > 0).unwrap_or_default()
    }

    /// Whether a member has been woken, and not been polled since: the queue leads to it.
    pub(super) fn is_woken(&self, memory: &Memory, member: u64) -> bool {
        if self.ends.contains(&member) {
            return true;
        }
        let points = |link: &&u64| memory.word(ProcAddr(member + 8 * **link)) == Some(self.queue);
        let Some(link) = self.links.iter().find(points) else {
            return false;
        };
        let [first, last] = self.ends;
        let mut steps = MAX_STEPS;
        let mut ends = [(first, last), (last, first)].into_iter();
        ends.any(|(tail, head)| {
            let words = words(memory, ProcAddr(tail), MEMBER_WORDS);
            let mut nexts = words.iter().zip(0..);
            nexts.any(|(next, field)| {
                let walk = Walk {
                    set: self,
                    link: *link,
                    next: field,
                    head,
                };
                walk.passes(memory, *next, member, &mut steps)
            })
        })
    }
}

/// A walk along a queue.
struct Walk<'a> {
    set: &'a FutureSet,
    /// In which word a member points to the queue.
    link: u64,
    /// In which word it leads to the next one.
    next: u64,
    head: u64,
}

impl Walk<'_> {
    /// Whether it comes from this member to the head, where it ends, and passes another one.
    fn passes(&self, memory: &Memory, first: u64, member: u64, steps: &mut usize) -> bool {
        let (mut at, mut has_passed) = (first, false);
        // All members, and the stub.
        for _ in 0..=self.set.count {
            if *steps == 0 || !is_pointer(at) {
                return false;
            }
            *steps -= 1;
            has_passed |= at == member;
            let place = |field| (ProcAddr(at + 8 * field), 1);
            let mut words = [0; 2];
            let read = memory.places(&[place(self.link), place(self.next)], &mut words);
            let [queue, next] = words;
            let is_own = queue == self.set.queue || at == self.set.stub;
            if read != 2 || !is_own || next == at {
                return false;
            }
            if at == self.head {
                return has_passed && next == 0;
            }
            at = next;
        }
        false
    }
}

/// In which words members may point to the queue.
fn links(memory: &Memory, queue: u64, stub: u64, ends: [u64; 2]) -> Vec<u64> {
    let of_stub = words(memory, ProcAddr(stub), MEMBER_WORDS);
    let members = ends.into_iter().filter(|end| *end != stub);
    let members: Vec<_> = members
        .map(|end| words(memory, ProcAddr(end), MEMBER_WORDS))
        .collect();
    let links = (0..of_stub.len()).filter(|link| {
        let points = |words: &Vec<u64>| words.get(*link) == Some(&queue);
        of_stub[*link] == u64::MAX && members.iter().all(points)
    });
    links.map(|link| link as u64).take(MAX_LINKS).collect()
}

/// How many references there are to an `Arc`'s allocation, strong and weak ones.
fn counts(memory: &Memory, allocation: u64) -> Option<[u64; 2]> {
    let mut words = [0; 2];
    let read = memory.places(&[(ProcAddr(allocation), words.len())], &mut words);
    (read == 1).then_some(words)
}

/// Whether this may be the value of an `Arc` to which there are no weak references.
fn is_member(memory: &Memory, value: u64) -> bool {
    let allocation = value.checked_sub(8 * COUNTS as u64);
    let allocation = allocation.filter(|_| is_pointer(value));
    let counts = allocation.and_then(|allocation| counts(memory, allocation));
    counts.is_some_and(|[strong, weak]| is_count(strong) && weak == 1)
}

fn is_count(word: u64) -> bool {
    (1..MAX_COUNT).contains(&word)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAKER: u64 = 0x5555_0000;
    const TASK: u64 = 0x6666_0000;
    const NO_QUEUE: u64 = u64::MAX;

    /// As the compiler orders them today: a queue, its stub, and three members, each with a future
    /// of two words between the pointer to the queue and the one to the next member.
    #[repr(C)]
    struct Memories {
        before: [u64; 8],
        queue: [u64; 8],
        stub: [u64; 8],
        members: [[u64; 8]; 3],
        after: [u64; 8],
    }

    impl Memories {
        fn member(&self, index: usize) -> u64 {
            &raw const self.members[index][2] as u64
        }

        fn queue(&self) -> u64 {
            self.queue.as_ptr() as u64
        }

        /// The set that was polled by the task, and what is in its queue.
        fn set(&self) -> Option<(FutureSet, [bool; 3])> {
            let data = ProcAddr(&raw const self.queue[4] as u64);
            let around = Around::read(&own(), data)?;
            let set = FutureSet::at(&own(), &around, |vtable| vtable == WAKER)?;
            let woken = [0, 1, 2].map(|index| set.is_woken(&own(), self.member(index)));
            Some((set, woken))
        }
    }

    fn own() -> Memory {
        Memory::of(std::process::id())
    }

    /// All members are in the queue, but for the one that was polled first.
    fn memories() -> Box<Memories> {
        let mut all = Box::new(Memories {
            before: [0; 8],
            queue: [0; 8],
            stub: [1, 1, NO_QUEUE, 7, 7, 0, 0, 1],
            members: [[0; 8]; 3],
            after: [0; 8],
        });
        let members = [0, 1, 2].map(|index| all.member(index));
        let (stub, queue) = (all.stub.as_ptr() as u64, all.queue());
        all.queue = [1, 4, 0, WAKER, TASK, members[2], stub + 16, stub];
        all.stub[6] = members[1];
        for (index, next) in [(0, 0), (1, members[2]), (2, 0)] {
            all.members[index] = [1, 1, queue, 9, 9, 3, next, 1];
        }
        all
    }

    #[test]
    fn a_set_is_known_by_its_queue_and_leads_to_who_polls_it() {
        let mut all = memories();
        let (set, woken) = all.set().expect("a set");
        assert_eq!((set.queue, set.polled_by), (all.queue(), TASK));
        assert_eq!(woken, [false, true, true]);
        let members = [0, 1, 2].map(|index| all.member(index));
        assert_eq!(set.members(&own(), &members.map(ProcAddr)), members);
        // There is one more.
        assert!(set.members(&own(), &[ProcAddr(members[0])]).is_empty());
        // It was called meanwhile.
        all.queue[3] = 0;
        assert!(all.set().is_some());
    }

    #[test]
    fn an_empty_queue_holds_nobody() {
        let mut all = memories();
        let stub = all.stub.as_ptr() as u64;
        all.queue[5] = stub + 16;
        all.stub[6] = 0;
        let (_, woken) = all.set().expect("a set");
        assert_eq!(woken, [false; 3]);
    }

    #[test]
    fn what_does_not_fit_is_no_set() {
        let broken = |break_it: fn(&mut Memories)| {
            let mut all = memories();
            break_it(&mut all);
            all.set()
        };
        assert_eq!(broken(|all| all.queue[0] = 0), None);
        assert_eq!(broken(|all| all.queue[2] = 2), None);
        assert_eq!(broken(|all| all.queue[3] = WAKER + 8), None);
        assert_eq!(broken(|all| all.stub[2] = 8), None);
        assert_eq!(broken(|all| all.stub[0] = 2), None);
        assert_eq!(broken(|all| all.members[2][1] = 2), None);
        // The queue does not end at its head.
        let (_, woken) = broken(|all| all.members[2][6] = TASK).expect("a set");
        assert_eq!(woken, [false, false, true]);
    }
}
