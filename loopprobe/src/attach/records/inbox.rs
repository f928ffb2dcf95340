//! What the kernel side has sent and nobody has looked at yet, in bounded memory.
//!
//! Naming the frames of one stack can take seconds, when it is the first of a large file. Meanwhile
//! stacks come by the thousand. Records of polls are small and all kept. Of the stacks each poll
//! keeps its first and its longest when they get too many, and the others are counted.

use std::collections::{HashMap, HashSet, VecDeque};

use loopprobe_common::{
    light::Place,
    records::{Kind, StackRecord},
    watch::WatchRecord,
};

use super::record::Record;

/// How many bytes of stacks are kept at most: some three seconds of the most that two CPUs can
/// send.
const MOST_STACKS: usize = 64 << 20;
/// How many bytes of other records are kept at most: a quarter of a million polls.
const MOST_RECORDS: usize = 64 << 20;
/// What an item takes beside its bytes.
const OVERHEAD: usize = size_of::<Item>() + 16;

/// Records in the order in which they are to be looked at: a poll's stacks before the poll.
#[derive(Debug)]
pub(super) struct Inbox {
    items: VecDeque<Item>,
    pub stack_bytes: usize,
    record_bytes: usize,
    most_stacks: usize,
    /// With how many bytes of stacks some are dropped next.
    thin_at: usize,
    /// What found no room.
    pub lost: InboxLost,
}

/// What an inbox had no room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct InboxLost {
    /// Stacks.
    pub(crate) stacks: u64,
    /// Records of polls and of the process.
    pub(crate) records: u64,
}

/// One record.
#[derive(Debug)]
pub(super) struct Item {
    bytes: Box<[u8]>,
    /// `None` if it is no stack.
    stack: Option<Head>,
    /// Whether somebody waits for it, or what it tells of is soon gone, as the descriptor of a
    /// system call is.
    pub(super) is_urgent: bool,
}

/// What a stack is measured by against others.
#[derive(Clone, Copy, Debug)]
struct Head {
    owner: Owner,
    sample: bool,
    /// Whether its thread was in a system call.
    in_syscall: bool,
    /// How long its thread was off its CPU; 0 for a sample.
    off_ns: u64,
}

/// What a stack tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Owner {
    /// The poll of a thread that began then.
    Poll(u32, u64),
    /// A thread without a known poll.
    Thread(u32),
    /// A question.
    Place(Place),
    /// A piece of a question's stack, by its thread, moment and address: none can do for another.
    Piece(u32, u64, u64),
}

/// How many stacks of a poll outlive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keep {
    /// The first and the longest, of those on a CPU and of those off it.
    FirstAndLongest,
    /// The longest of all.
    Longest,
}

impl Item {
    /// A record as the kernel side wrote it.
    pub(super) fn new(bytes: &[u8]) -> Self {
        let (stack, is_urgent) = match Record::parse(bytes) {
            Some(Record::Stack(record, _)) => {
                let head = Head::of(&record);
                (Some(head), head.is_urgent())
            }
            Some(Record::Watched(record)) => (None, record.flags & WatchRecord::CERTAIN != 0),
            _ => (None, true),
        };
        Self {
            bytes: bytes.into(),
            stack,
            is_urgent,
        }
    }

    /// The index of the target that it is of.
    pub(super) fn target(&self) -> usize {
        Record::target(&self.bytes)
    }

    fn size(&self) -> usize {
        self.bytes.len() + OVERHEAD
    }
}

impl Head {
    fn of(record: &StackRecord) -> Self {
        Self {
            owner: if record.kind == Kind::Question as u16 {
                Owner::Place(record.place)
            } else if record.kind == Kind::Piece as u16 {
                Owner::Piece(record.tid, record.start_ns, record.registers.sp)
            } else if record.kind == Kind::Scan as u16 || record.kind == Kind::Beside as u16 {
                Owner::Thread(record.tid)
            } else {
                Owner::Poll(record.tid, record.poll_ns)
            },
            sample: record.kind != Kind::OffCpu as u16,
            in_syscall: record.kind == Kind::OffCpu as u16 || record.in_kernel != 0,
            off_ns: record.end_ns.saturating_sub(record.start_ns),
        }
    }

    fn is_urgent(&self) -> bool {
        matches!(self.owner, Owner::Place(_)) || self.in_syscall
    }
}

impl Default for Inbox {
    fn default() -> Self {
        Self::with_room(MOST_STACKS)
    }
}

impl Inbox {
    fn with_room(most_stacks: usize) -> Self {
        Self {
            items: VecDeque::new(),
            stack_bytes: 0,
            record_bytes: 0,
            most_stacks,
            thin_at: most_stacks / 2,
            lost: InboxLost::default(),
        }
    }

    /// Adds a record behind all others, or counts it as lost.
    pub(super) fn push(&mut self, item: Item) {
        let size = item.size();
        if item.stack.is_none() {
            if self.record_bytes + size > MOST_RECORDS {
                self.lost.records += 1;
                return;
            }
            self.record_bytes += size;
        } else {
            if self.stack_bytes + size > self.thin_at {
                self.make_room();
            }
            if self.stack_bytes + size > self.most_stacks {
                self.lost.stacks += 1;
                return;
            }
            self.stack_bytes += size;
        }
        self.items.push_back(item);
    }

    /// Takes the oldest record out.
    pub(super) fn pop(&mut self) -> Option<Box<[u8]>> {
        let item = self.items.pop_front()?;
        if item.stack.is_some() {
            self.stack_bytes -= item.size();
        } else {
            self.record_bytes -= item.size();
        }
        if self.items.is_empty() {
            self.thin_at = self.most_stacks / 2;
        }
        Some(item.bytes)
    }

    /// How many records there are.
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    fn make_room(&mut self) {
        // Looking through all is dear, so the next time is an eighth of the room away.
        let step = self.most_stacks / 8;
        self.thin(Keep::FirstAndLongest);
        if self.stack_bytes + step > self.most_stacks {
            self.thin(Keep::Longest);
        }
        self.thin_at = (self.stack_bytes + step).max(self.most_stacks / 2);
    }

    /// Drops stacks of what has more than are to be kept.
    fn thin(&mut self, keep: Keep) {
        let kept = self.kept(keep);
        let before = self.items.len();
        let mut place = 0;
        let mut dropped = 0;
        self.items.retain(|item| {
            let keeps = item.stack.is_none() || kept.contains(&place);
            place += 1;
            if !keeps {
                dropped += item.size();
            }
            keeps
        });
        self.stack_bytes -= dropped;
        self.lost.stacks += (before - self.items.len()) as u64;
    }

    /// The places of the stacks that are to be kept.
    fn kept(&self, keep: Keep) -> HashSet<usize> {
        let mut first = HashSet::new();
        let mut longest: HashMap<(Owner, bool), (usize, u64)> = HashMap::new();
        for (place, item) in self.items.iter().enumerate() {
            let Some(head) = item.stack else { continue };
            let sample = head.sample && keep == Keep::FirstAndLongest;
            match longest.entry((head.owner, sample)) {
                std::collections::hash_map::Entry::Vacant(new) => {
                    new.insert((place, head.off_ns));
                    if keep == Keep::FirstAndLongest {
                        first.insert(place);
                    }
                }
                std::collections::hash_map::Entry::Occupied(mut known) => {
                    if head.off_ns >= known.get().1 {
                        known.insert((place, head.off_ns));
                    }
                }
            }
        }
        first.extend(longest.into_values().map(|(place, _)| place));
        first
    }
}

#[cfg(test)]
mod tests {
    use loopprobe_common::records::PollRecord;

    use super::*;

    const ROOM: usize = 1 << 20;

    fn stack(kind: Kind, poll_ns: u64, start_ns: u64, off_ns: u64) -> Item {
        let record = StackRecord {
            kind: kind as u16,
            tid: 7,
            poll_ns,
            start_ns,
            end_ns: start_ns + off_ns,
            len: 4000,
            ..StackRecord::default()
        };
        Item::new(&[bytes(&record), &[0; 4000]].concat())
    }

    fn poll(start_ns: u64) -> Item {
        let mut record = PollRecord {
            kind: Kind::Poll as u16,
            tid: 7,
            ..PollRecord::default()
        };
        record.poll.start_ns = start_ns;
        Item::new(bytes(&record))
    }

    fn bytes<T>(value: &T) -> &[u8] {
        // SAFETY: records are plain integers without padding, all bytes of which are there.
        unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast(), size_of::<T>()) }
    }

    /// Start of the poll, start of the stack, or of the poll alone.
    fn contents(inbox: &mut Inbox) -> Vec<(u64, Option<u64>)> {
        let mut found = Vec::new();
        while let Some(bytes) = inbox.pop() {
            found.push(match Record::parse(&bytes) {
                Some(Record::Stack(record, _)) => (record.poll_ns, Some(record.start_ns)),
                Some(Record::Poll(record)) => (record.poll.start_ns, None),
                other => panic!("{other:?}"),
            });
        }
        found
    }

    /// One of the pieces of one question, which has no poll's time in it.
    fn piece(address: u64) -> Item {
        let mut record = StackRecord {
            kind: Kind::Piece as u16,
            tid: 7,
            start_ns: 5,
            len: 4000,
            ..StackRecord::default()
        };
        record.registers.sp = address;
        Item::new(&[bytes(&record), &[0; 4000]].concat())
    }

    #[test]
    fn no_piece_of_a_question_makes_room_for_another() {
        let mut inbox = Inbox::with_room(ROOM);
        for address in 1..=3 {
            inbox.push(piece(address));
        }
        for start_ns in 0..2 * ROOM as u64 / 4000 {
            inbox.push(stack(Kind::Sample, 1, start_ns, 0));
        }
        let pieces = contents(&mut inbox)
            .into_iter()
            .filter(|found| *found == (0, Some(5)));
        assert_eq!(pieces.count(), 3);
    }

    #[test]
    fn a_few_stacks_are_all_kept_and_in_order() {
        let mut inbox = Inbox::with_room(ROOM);
        inbox.push(stack(Kind::Sample, 1, 10, 0));
        inbox.push(stack(Kind::OffCpu, 1, 20, 5));
        inbox.push(poll(1));
        assert_eq!(
            contents(&mut inbox),
            [(1, Some(10)), (1, Some(20)), (1, None)]
        );
        assert_eq!(inbox.lost, InboxLost::default());
    }

    #[test]
    fn of_too_many_stacks_each_poll_keeps_the_first_and_the_longest() {
        let mut inbox = Inbox::with_room(ROOM);
        for i in 0..500 {
            let off_ns = if i == 77 { 9_000 } else { 100 };
            inbox.push(stack(Kind::OffCpu, 1, i * 10_000, off_ns));
        }
        inbox.push(poll(1));
        let lost = inbox.lost.stacks;
        let found = contents(&mut inbox);
        assert_eq!(found[0], (1, Some(0)));
        assert_eq!(found[1], (1, Some(770_000)));
        assert_eq!(found.last(), Some(&(1, None)));
        assert_eq!(lost as usize + found.len() - 1, 500);
        assert!(lost > 250, "{lost}");
    }

    #[test]
    fn many_polls_with_many_stacks_keep_one_each_and_no_poll_is_lost() {
        const POLLS: u64 = 200;
        let mut inbox = Inbox::with_room(ROOM);
        for poll_ns in 1..=POLLS {
            for i in 0..20 {
                let kind = if i % 2 == 0 {
                    Kind::Sample
                } else {
                    Kind::OffCpu
                };
                inbox.push(stack(kind, poll_ns, i, i));
                assert!(inbox.stack_bytes <= ROOM);
            }
            inbox.push(poll(poll_ns));
        }
        let found = contents(&mut inbox);
        for poll_ns in 1..=POLLS {
            let of_poll: Vec<_> = found.iter().filter(|(poll, _)| *poll == poll_ns).collect();
            assert!(of_poll.len() >= 2, "{poll_ns}: {of_poll:?}");
            assert_eq!(of_poll.last().unwrap().1, None);
        }
    }

    #[test]
    fn what_has_no_room_at_all_is_counted() {
        let mut inbox = Inbox::with_room(ROOM);
        for poll_ns in 0..1000 {
            inbox.push(stack(Kind::OffCpu, poll_ns, 0, 1));
        }
        assert!(inbox.stack_bytes <= ROOM);
        let lost = inbox.lost.stacks;
        assert_eq!(contents(&mut inbox).len() as u64 + lost, 1000);
        assert!(lost > 0);
        assert_eq!(inbox.stack_bytes, 0);
    }
}
