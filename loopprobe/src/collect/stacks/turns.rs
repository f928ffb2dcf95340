//! Loops whose awaits are all ready: how often one turned inside a poll.
//!
//! A sample shows in which loop of a state machine a poll computes, and the code where in it an
//! await completes. A breakpoint there, for a few times, tells how long a turn takes.

use std::collections::HashMap;

use crate::{
    attach::Breakpoint,
    clock,
    diagnose::ReadyLoop,
    elf::{FileOffset, ProcAddr},
    model::{Frame, LongPoll, SourceLocation},
    symbolize::Symbolizer,
    unwind::RawFrame,
};

/// So many times a breakpoint is met: on a virtual machine each costs 15 to 150 us.
const TIMES: u32 = 32;
/// Fewer awaits in a poll are no loop that goes on and on.
const FEWEST: usize = 8;
/// Threads that get a breakpoint: the poll's own, and others that poll.
const MAX_THREADS: usize = 16;
/// How often a loop is asked about that did not turn as often in a long poll, and how often where
/// other polls had used up what there was.
const TRIES: u32 = 2;
const USED_UP: u32 = 16;
/// How long a breakpoint waits for a long poll, and after how long a loop is asked about again.
const WAIT_NS: u64 = 5_000_000_000;
const KEEP_NS: u64 = 5_000_000_000;
/// Frames of a stack that are looked at, awaits around each, and calls whose loops are remembered.
const MAX_FRAMES: usize = 24;
const MAX_PLACES: usize = 4;
const MAX_CALLS: usize = 4096;

/// An instruction that is executed when an await completes, in a loop around a call.
#[derive(Clone, Debug)]
struct Place {
    at: ProcAddr,
    of: Option<SourceLocation>,
    /// The frame whose function has the loop: where in its file it stands.
    offset: FileOffset,
}

#[derive(Debug, Default)]
struct Known {
    turn: Option<Turn>,
    tries: u32,
    used_up: u32,
}

#[derive(Clone, Copy, Debug)]
struct Turn {
    ns: u64,
    seen_ns: u64,
}

impl Turn {
    /// From the times of some completions: their mean distance, with what it costs to see one. That
    /// is several times as much at times, so it cannot be taken off: a turn is no longer than this.
    fn of(hits: &[u64], seen_ns: u64) -> Option<Self> {
        let (first, last) = (hits.first()?, hits.last()?);
        let ns = (last - first) / (hits.len() as u64 - 1).max(1);
        (hits.len() >= FEWEST).then_some(Self {
            ns: ns.max(1),
            seen_ns,
        })
    }
}

#[derive(Debug)]
struct Asked {
    at: ProcAddr,
    since_ns: u64,
    breakpoints: Vec<(u32, Breakpoint)>,
}

/// What is known of such loops.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// By module and address of a call.
    places: HashMap<(u32, ProcAddr), Vec<Place>>,
    known: HashMap<ProcAddr, Known>,
    asked: Option<Asked>,
}

impl Known {
    fn is_open(&self) -> bool {
        self.tries < TRIES && self.used_up < USED_UP
    }

    fn is_fresh(&self, now_ns: u64) -> bool {
        self.turn
            .is_some_and(|turn| turn.seen_ns + KEEP_NS > now_ns)
    }
}

impl Turns {
    /// Whether the loop that is asked about is one that a poll may tell of: its thread had the
    /// breakpoint before it ended.
    pub(super) fn asks(&self, poll: &LongPoll) -> bool {
        self.asked.as_ref().is_some_and(|asked| {
            let mut breakpoints = asked.breakpoints.iter();
            asked.since_ns <= end_ns(poll) && breakpoints.any(|(tid, _)| *tid == poll.tid)
        })
    }

    /// Learns what a poll tells of the loop that is asked about, if it was sampled in it.
    pub(super) fn learn(
        &mut self,
        frames: &[RawFrame],
        symbolizer: &mut Symbolizer,
        poll: &LongPoll,
        now_ns: u64,
    ) {
        let places = self.all_places(frames, symbolizer);
        let is_asked = |asked: &mut Asked| places.iter().any(|place| place.at == asked.at);
        let Some(asked) = self.asked.take_if(is_asked) else {
            return;
        };
        let of_thread = asked.breakpoints.iter().find(|(tid, _)| *tid == poll.tid);
        let all = of_thread.map_or_else(Vec::new, |(_, breakpoint)| breakpoint.hits());
        let during = poll.start_ns..=end_ns(poll);
        let hits = all.iter().copied().filter(|hit| during.contains(hit));
        let turn = Turn::of(&hits.collect::<Vec<_>>(), now_ns);
        // What had begun before may have passed its awaits already, and what is open comes to more.
        if turn.is_none() && (poll.start_ns < asked.since_ns || !poll.ended) {
            self.asked = Some(asked);
            return;
        }
        let known = self.known.entry(asked.at).or_default();
        // Other polls may have used up what there was; that says nothing of the loop.
        if turn.is_none() && all.len() >= TIMES as usize {
            known.used_up += 1;
            return;
        }
        known.tries += u32::from(turn.is_none());
        known.turn = turn;
    }

    /// Of the loops that a sampled stack lies in, the one that turned fastest in a poll. `named`
    /// are the same frames with names.
    pub(super) fn of(
        &mut self,
        frames: &[RawFrame],
        named: &[Frame],
        symbolizer: &mut Symbolizer,
    ) -> Option<ReadyLoop> {
        if self.known.values().all(|known| known.turn.is_none()) {
            return None;
        }
        let places = self.all_places(frames, symbolizer);
        let known = places.into_iter().filter_map(|place| {
            let turn = self.known.get(&place.at)?.turn?;
            Some(ReadyLoop {
                turn_ns: turn.ns,
                of: place.of,
                frame: named_frame(named, place.offset)?,
            })
        });
        known.min_by_key(|looped| looped.turn_ns)
    }

    /// Asks about a loop that a sampled stack lies in, the innermost one first of which nothing is
    /// known. One after the other: each breakpoint makes a turn longer.
    pub(super) fn ask(
        &mut self,
        frames: &[RawFrame],
        symbolizer: &mut Symbolizer,
        tids: &[u32],
        now_ns: u64,
    ) {
        if self.asked.is_some() {
            return;
        }
        let places = self.all_places(frames, symbolizer);
        let known = |place: &Place| self.known.get(&place.at);
        let is_fresh = |place| known(place).is_some_and(|known| known.is_fresh(now_ns));
        let is_open = |place: &&Place| known(place).is_none_or(Known::is_open);
        // One is enough to tell what never yields.
        let is_told = places.iter().any(is_fresh);
        let Some(place) = places.iter().find(is_open).filter(|_| !is_told) else {
            return;
        };
        let placed = |&tid: &u32| Some((tid, Breakpoint::place(tid, place.at, TIMES).ok()?));
        let breakpoints: Vec<_> = tids.iter().take(MAX_THREADS).filter_map(placed).collect();
        if breakpoints.is_empty() {
            self.known.entry(place.at).or_default().tries += 1;
            return;
        }
        self.asked = Some(Asked {
            at: place.at,
            // What is looked at may be long over: the clock tells from when on there are hits.
            since_ns: clock::now_ns(),
            breakpoints,
        });
    }

    /// Takes breakpoints off that no long poll has come to.
    pub(super) fn tick(&mut self, now_ns: u64) {
        self.asked
            .take_if(|asked| asked.since_ns + WAIT_NS <= now_ns);
    }

    fn all_places(&mut self, frames: &[RawFrame], symbolizer: &mut Symbolizer) -> Vec<Place> {
        let frames = frames.iter().take(MAX_FRAMES);
        frames
            .flat_map(|frame| self.places(frame, symbolizer))
            .collect()
    }

    fn places(&mut self, frame: &RawFrame, symbolizer: &mut Symbolizer) -> Vec<Place> {
        let Some(module) = &frame.module else {
            return Vec::new();
        };
        let key = (module.id(), frame.address);
        if let Some(known) = self.places.get(&key) {
            return known.clone();
        }
        if self.places.len() >= MAX_CALLS {
            return Vec::new();
        }
        let Some(offset) = frame.offset() else {
            return Vec::new();
        };
        let found = symbolizer.completions(frame).into_iter();
        let places = found.map(|completion| Place {
            at: ProcAddr(completion.at.0.wrapping_add(module.bias())),
            of: completion.of,
            offset,
        });
        let places: Vec<Place> = places.take(MAX_PLACES).collect();
        self.places.insert(key, places.clone());
        places
    }
}

fn end_ns(poll: &LongPoll) -> u64 {
    poll.start_ns + poll.duration_ns
}

/// The async body, or else the function, that stands at an offset of a file.
fn named_frame(named: &[Frame], offset: FileOffset) -> Option<usize> {
    let is_there = |frame: &Frame| frame.offset == Some(offset.0);
    let is_body = |frame: &Frame| is_there(frame) && frame.async_body;
    let body = named.iter().position(is_body);
    body.or_else(|| named.iter().rposition(is_there))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_the_mean_of_enough() {
        let hits = [0, 10, 20, 30, 40, 50, 60, 140];
        assert_eq!(Turn::of(&hits, 0).map(|turn| turn.ns), Some(20));
        assert!(Turn::of(&hits[..FEWEST - 1], 0).is_none());
        assert!(Turn::of(&[], 0).is_none());
    }
}
