//! A future that waits for permits of a semaphore, known by its shape in memory.
//!
//! Tokio's `Mutex`, `RwLock`, `Semaphore` and bounded channels wait in such a future: `Acquire` in
//! `tokio/src/sync/batch_semaphore.rs` (1.23 to 1.54, without `tokio_unstable`'s tracing). It has a
//! node of the semaphore's queue (how many permits are missing, the waker, two links), a pointer to
//! the semaphore, how many permits are wanted (a `u32` to 1.32, a `usize` from 1.38), and whether
//! it has been polled and has not taken them. The compiler chooses the order of these fields, so
//! all orders are tried, and one is right if the semaphore's own queue leads to the node.

use std::collections::HashSet;

use super::around::{Around, is_pointer};
use crate::{elf::ProcAddr, process::Memory};

/// Words of an `Acquire`.
const WORDS: i64 = 8;
/// Words of its node.
const NODE_WORDS: i64 = 5;
/// Words of a semaphore in which its queue's ends are looked for.
const SEMAPHORE_WORDS: usize = 8;
/// Nothing in Tokio wants more at a time: `Semaphore::acquire_many` takes a `u32`, and all of a
/// `RwLock` is an eighth of that.
const MAX_WANTED: u64 = u32::MAX as u64;
/// Futures in a queue that are walked along.
const MAX_QUEUE: usize = 1 << 16;

/// In which word of an `Acquire` each field is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    node: i64,
    vtable: i64,
    data: i64,
    prev: i64,
    next: i64,
    missing: i64,
    semaphore: i64,
    wanted: i64,
    size: Size,
}

/// How large the number of wanted permits is. What is smaller than a word lies behind all else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    /// A word of its own; whether the future waits is in the last word.
    Word,
    /// Half a word; whether the future waits is in the other half.
    Half,
}

/// What looks like a future that waits in a semaphore's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    /// What all such futures look like in this program.
    pub shape: Shape,
    /// The vtable of its waker.
    pub vtable: u64,
    /// The semaphore.
    pub semaphore: u64,
    /// The node that the semaphore's queue leads to, if it is one.
    pub node: u64,
}

/// The nodes in a semaphore's queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Nodes {
    /// All of them.
    pub all: HashSet<u64>,
    /// The one that is next: new ones come to the front (`Waitlist::queue`).
    pub oldest: u64,
}

/// A future that has been given what it waited for, and has not been polled since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Granted {
    /// Where it lies.
    pub at: ProcAddr,
    /// The task that was woken for it, as its waker had it: what is left of that.
    pub woken: u64,
}

impl Shape {
    /// All that there may be. Halves first: a half is never found where there is a word, but what
    /// lies before a half may look like a word.
    fn all() -> impl Iterator<Item = Self> {
        const ORDERS: [[usize; 3]; 6] = [
            [0, 1, 2],
            [0, 2, 1],
            [1, 0, 2],
            [1, 2, 0],
            [2, 0, 1],
            [2, 1, 0],
        ];
        let words = ORDERS.map(|order| (Size::Word, starts(order, [1, NODE_WORDS, 1])));
        let halves = [[0, 1, 2], [1, 0, 2]];
        let halves = halves.map(|order| (Size::Half, starts(order, [1, NODE_WORDS, 1])));
        let outer = halves.into_iter().chain(words);
        let inner = ORDERS.map(|order| starts(order, [2, 2, 1]));
        outer.flat_map(move |(size, [semaphore, node, wanted])| {
            inner.into_iter().flat_map(move |[waker, links, missing]| {
                [(0, 1), (1, 0)].map(|(vtable, data)| Self {
                    node,
                    vtable: node + waker + vtable,
                    data: node + waker + data,
                    prev: node + links,
                    next: node + links + 1,
                    missing: node + missing,
                    semaphore,
                    wanted,
                    size,
                })
            })
        })
    }

    /// How many permits are wanted, if such a future has been polled and has not taken them.
    fn wanted(&self, word: impl Fn(i64) -> u64) -> Option<u64> {
        let all = word(self.wanted);
        let (wanted, is_queued) = match self.size {
            Size::Word => (all, word(WORDS - 1)),
            Size::Half => (all & u64::from(u32::MAX), all >> 32),
        };
        (is_queued & 0xff == 1 && wanted <= MAX_WANTED).then_some(wanted)
    }

    /// The future whose pointer to its semaphore is at this place, if it has what it waited for and
    /// has not been polled since.
    pub(super) fn granted(&self, memory: &Memory, semaphore: ProcAddr) -> Option<Granted> {
        let around = Around::read(memory, semaphore)?;
        let word = |field| around.word(field - self.semaphore);
        let is_granted = word(self.missing) == 0
            && self.wanted(word).is_some_and(|wanted| wanted > 0)
            && word(self.vtable) == 0
            && (word(self.prev), word(self.next)) == (0, 0);
        is_granted.then(|| Granted {
            at: around.at(-self.semaphore),
            woken: word(self.data),
        })
    }
}

impl Waiting {
    /// What may wait with the waker whose data word is at the place that this is around.
    pub(super) fn at(around: &Around) -> Vec<Self> {
        let all = Shape::all().filter_map(|shape| {
            let word = |field| around.word(field - shape.data);
            let wanted = shape.wanted(word)?;
            let is_link = |link| word(link) == 0 || is_pointer(word(link));
            let is_like = (1..=wanted).contains(&word(shape.missing))
                && is_pointer(word(shape.vtable))
                && is_pointer(word(shape.semaphore))
                && is_link(shape.prev)
                && is_link(shape.next);
            is_like.then(|| Self {
                shape,
                vtable: word(shape.vtable),
                semaphore: word(shape.semaphore),
                node: around.at(shape.node - shape.data).0,
            })
        });
        all.collect()
    }

    /// The semaphore's queue, if there is one of this shape.
    pub(super) fn queue(&self, memory: &Memory) -> Option<Nodes> {
        let mut words = [0; SEMAPHORE_WORDS];
        let read = memory.places(&[(ProcAddr(self.semaphore), words.len())], &mut words);
        let pairs = words.windows(2).filter(|_| read == 1);
        let mut ends = pairs.flat_map(|pair| [(pair[0], pair[1]), (pair[1], pair[0])]);
        ends.find_map(|(first, last)| {
            let are_ends = is_pointer(first) && is_pointer(last);
            are_ends.then(|| self.walk(memory, first, last))?
        })
    }

    /// The nodes from the first to the last, if each leads back to the one before.
    fn walk(&self, memory: &Memory, first: u64, last: u64) -> Option<Nodes> {
        let mut seen = HashSet::new();
        let (mut before, mut node) = (0, first);
        while seen.len() < MAX_QUEUE && seen.insert(node) {
            let links = node.checked_add_signed(8 * (self.shape.prev - self.shape.node))?;
            let mut words = [0; 2];
            let read = memory.places(&[(ProcAddr(links), 2)], &mut words);
            let [prev, next] = words;
            if read != 1 || prev != before {
                return None;
            }
            if next == 0 {
                return (node == last).then_some(Nodes {
                    all: seen,
                    oldest: node,
                });
            }
            (before, node) = (node, next);
        }
        None
    }
}

/// Where three fields of these sizes begin, if they lie in this order.
fn starts(order: [usize; 3], sizes: [i64; 3]) -> [i64; 3] {
    let mut starts = [0; 3];
    let mut end = 0;
    for field in order {
        starts[field] = end;
        end += sizes[field];
    }
    starts
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the compiler orders them today: a semaphore with a queue of two, and one future that has
    /// been given its permits. With some room around.
    #[repr(C)]
    struct Memories {
        before: [u64; 8],
        semaphore: [u64; 5],
        first: [u64; 8],
        last: [u64; 8],
        granted: [u64; 8],
        after: [u64; 8],
    }

    const WAKER: u64 = 0x5555_0000;
    const TASK: u64 = 0x6666_0000;

    fn memories() -> Box<Memories> {
        let mut all = Box::new(Memories {
            before: [0; 8],
            semaphore: [0; 5],
            first: [0; 8],
            last: [0; 8],
            granted: [0; 8],
            after: [0; 8],
        });
        let semaphore = all.semaphore.as_ptr() as u64;
        let (first, last) = (
            &raw const all.first[1] as u64,
            &raw const all.last[1] as u64,
        );
        all.semaphore = [0, first, last, 0, 0];
        all.first = [semaphore, WAKER, TASK, 0, last, 2, 3, 1];
        all.last = [semaphore, WAKER, TASK, first, 0, 1, 1, 0x7701];
        all.granted = [semaphore, 0, TASK, 0, 0, 0, 1, 1];
        all
    }

    fn own() -> Memory {
        Memory::of(std::process::id())
    }

    /// The last of the queue, and how many are in it.
    fn waiting(all: &Memories) -> Option<(Waiting, usize)> {
        let around = Around::read(&own(), ProcAddr(&raw const all.last[2] as u64))?;
        let found = Waiting::at(&around);
        found.into_iter().find_map(|waiting| {
            let queue = waiting.queue(&own())?;
            let all = &queue.all;
            all.contains(&waiting.node).then_some((waiting, all.len()))
        })
    }

    #[test]
    fn a_waiting_future_is_known_by_its_queue() {
        let all = memories();
        let (found, queue) = waiting(&all).expect("a future");
        assert_eq!((found.semaphore, queue), (all.semaphore.as_ptr() as u64, 2));
        let at = |acquire: &[u64; 8]| ProcAddr(acquire.as_ptr() as u64);
        let granted = found.shape.granted(&own(), at(&all.granted));
        assert_eq!(granted.map(|granted| granted.woken), Some(TASK));
        assert_eq!(found.shape.granted(&own(), at(&all.first)), None);
        assert_eq!(Shape::all().count(), 96);
    }

    #[test]
    fn a_future_that_has_taken_its_permits_is_not_one_that_has_not() {
        let mut all = memories();
        let shape = waiting(&all).expect("a future").0.shape;
        all.granted[7] = 0x7700;
        let at = ProcAddr(all.granted.as_ptr() as u64);
        assert_eq!(shape.granted(&own(), at), None);
    }

    #[test]
    fn the_number_of_permits_may_take_half_a_word() {
        let mut all = memories();
        all.first[6..].copy_from_slice(&[1 << 32 | 3, 0x1]);
        all.last[6..].copy_from_slice(&[0x77 << 40 | 1 << 32 | 1, 0x1]);
        all.granted[6..].copy_from_slice(&[1 << 32 | 2, 0x1]);
        let shape = waiting(&all).expect("a future").0.shape;
        assert_eq!(shape.size, Size::Half);
        let at = ProcAddr(all.granted.as_ptr() as u64);
        assert!(shape.granted(&own(), at).is_some());
        all.granted[6] = 2;
        assert_eq!(shape.granted(&own(), at), None);
    }

    #[test]
    fn what_the_queue_does_not_lead_to_does_not_wait() {
        let mut all = memories();
        all.first[4] = 0;
        assert_eq!(waiting(&all), None);
        let mut all = memories();
        all.last[3] = 0;
        assert_eq!(waiting(&all), None);
        let mut all = memories();
        all.semaphore[2] = 0;
        assert_eq!(waiting(&all), None);
    }
}
