//! The time between a thread's polls: which parts of it are a root future's.
//!
//! The kernel side sees no end of `block_on`. Its stacks tell: while the root future is polled,
//! `block_on` is on the stack.

use crate::model::Split;

/// Stretches kept of one gap. More are not looked at: what lies behind them is not told.
const MAX_STRETCHES: usize = 4096;

/// What a stack shows of its thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In `block_on`.
    Inside,
    /// In no `block_on`, from the innermost function to the thread's first one, or in a worker's
    /// own loop.
    Outside,
    /// The stack was not read to its end.
    Unknown,
}

/// What was seen of one gap, in the order of time.
#[derive(Clone, Debug, Default)]
pub(super) struct Gap(Vec<Stretch>);

/// Stacks that follow each other and show the same.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    inside: bool,
    from_ns: u64,
    to_ns: u64,
    blocked_ns: u64,
    runnable_ns: u64,
}

/// A gap as the kernel side reports it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// When it began: in the runtime.
    pub start_ns: u64,
    /// When it ended.
    pub end_ns: u64,
    /// How long the thread waited in it, and how long for a CPU.
    pub split: Split,
    /// Whether it ended with a call of `block_on`, so that its end was outside.
    pub ends_outside: bool,
}

/// A part of a gap in which a root future was polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Not later than the true beginning by more than stacks can tell, and not before the time
    /// outside.
    pub start_ns: u64,
    /// When it ended, in the same way.
    pub end_ns: u64,
    /// Where its time went.
    pub split: Split,
    /// Whether stacks show it to be long, and not only to be perhaps.
    pub certain: bool,
}

impl Gap {
    /// Adds a stack that stood from `from_ns` to `to_ns`, of which the thread waited for something
    /// and for a CPU this long.
    pub(super) fn saw(
        &mut self,
        place: Place,
        from_ns: u64,
        to_ns: u64,
        blocked_ns: u64,
        runnable_ns: u64,
    ) {
        let inside = match place {
            Place::Inside => true,
            Place::Outside => false,
            Place::Unknown => return,
        };
        self.add(Stretch {
            inside,
            from_ns,
            to_ns,
            blocked_ns,
            runnable_ns,
        });
    }

    /// Adds what was seen later on.
    pub(super) fn join(&mut self, later: &Self) {
        for stretch in &later.0 {
            self.add(*stretch);
        }
    }

    fn add(&mut self, next: Stretch) {
        let same = |last: &&mut Stretch| last.inside == next.inside;
        if let Some(last) = self.0.last_mut().filter(same) {
            last.to_ns = last.to_ns.max(next.to_ns);
            last.blocked_ns += next.blocked_ns;
            last.runnable_ns += next.runnable_ns;
        } else if self.0.len() < MAX_STRETCHES {
            self.0.push(next);
        }
    }

    /// The parts of the gap that are a root future's and that kept the loop for `threshold_ns`: by
    /// computing or waiting, not by waiting for a CPU.
    pub(super) fn parts(&self, gap: &Bounds, threshold_ns: u64) -> Vec<Part> {
        if self.0.is_empty() && !gap.ends_outside {
            // Nothing was seen of it.
            return long(whole(gap, false), threshold_ns);
        }
        if self.0.iter().all(|stretch| stretch.inside) && !gap.ends_outside {
            return long(whole(gap, true), threshold_ns);
        }
        let inside = self.0.iter().enumerate().filter(|(_, s)| s.inside);
        inside
            .flat_map(|(index, stretch)| {
                long(self.part(index, stretch, gap, threshold_ns), threshold_ns)
            })
            .collect()
    }

    /// The part around a stretch: it reaches as far as the time that was seen outside.
    fn part(&self, index: usize, stretch: &Stretch, gap: &Bounds, threshold_ns: u64) -> Part {
        let before = index.checked_sub(1).and_then(|index| self.0.get(index));
        let start_ns = before.map_or(gap.start_ns, |outside| outside.to_ns);
        let seen_from = before.map_or(gap.start_ns, |_| stretch.from_ns);
        let (end_ns, seen_to) = match self.0.get(index + 1) {
            Some(outside) => (outside.from_ns, stretch.to_ns),
            None if gap.ends_outside => (stretch.to_ns, stretch.to_ns),
            None => (gap.end_ns, gap.end_ns),
        };
        let duration_ns = end_ns.saturating_sub(start_ns);
        Part {
            start_ns,
            end_ns,
            split: Split {
                on_cpu_ns: duration_ns
                    .saturating_sub(stretch.blocked_ns)
                    .saturating_sub(stretch.runnable_ns),
                runnable_ns: stretch.runnable_ns,
                blocked_ns: stretch.blocked_ns,
            },
            certain: seen_to.saturating_sub(seen_from) >= threshold_ns + stretch.runnable_ns,
        }
    }
}

fn whole(gap: &Bounds, certain: bool) -> Part {
    Part {
        start_ns: gap.start_ns,
        end_ns: gap.end_ns,
        split: gap.split,
        certain,
    }
}

fn long(part: Part, threshold_ns: u64) -> Vec<Part> {
    let own_ns = part.split.on_cpu_ns + part.split.blocked_ns;
    if own_ns >= threshold_ns {
        vec![part]
    } else {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn bounds(end_ms: u64, ends_outside: bool) -> Bounds {
        Bounds {
            start_ns: 0,
            end_ns: end_ms * MS,
            split: Split {
                on_cpu_ns: end_ms * MS,
                ..Split::default()
            },
            ends_outside,
        }
    }

    fn gap(stacks: &[(Place, u64, u64)]) -> Gap {
        let mut gap = Gap::default();
        for &(place, from, to) in stacks {
            gap.saw(place, from * MS, to * MS, (to - from) * MS, 0);
        }
        gap
    }

    fn told(gap: &Gap, bounds: &Bounds) -> Vec<(u64, u64, bool)> {
        let parts = gap.parts(bounds, 10 * MS).into_iter();
        parts
            .map(|part| (part.start_ns / MS, part.end_ns / MS, part.certain))
            .collect()
    }

    #[test]
    fn a_gap_inside_block_on_is_the_root_futures() {
        let seen = gap(&[(Place::Inside, 1, 12)]);
        assert_eq!(told(&seen, &bounds(13, false)), [(0, 13, true)]);
    }

    #[test]
    fn what_was_seen_apart_is_one_gap() {
        let mut seen = gap(&[(Place::Inside, 1, 5), (Place::Outside, 5, 20)]);
        seen.join(&gap(&[(Place::Outside, 20, 30), (Place::Inside, 31, 50)]));
        assert_eq!(told(&seen, &bounds(50, false)), [(30, 50, true)]);
    }

    #[test]
    fn a_gap_outside_any_runtime_is_nobodys() {
        let seen = gap(&[(Place::Outside, 1, 40)]);
        assert_eq!(told(&seen, &bounds(41, false)), []);
    }

    #[test]
    fn a_gap_of_which_nothing_was_seen_is_uncertain() {
        let unread = gap(&[(Place::Unknown, 1, 40)]);
        for seen in [Gap::default(), unread] {
            assert_eq!(told(&seen, &bounds(41, false)), [(0, 41, false)]);
            assert_eq!(told(&seen, &bounds(41, true)), []);
        }
    }

    #[test]
    fn only_the_parts_inside_count() {
        let seen = gap(&[
            (Place::Inside, 1, 12),
            (Place::Outside, 13, 60),
            (Place::Inside, 61, 66),
            (Place::Outside, 67, 90),
            (Place::Inside, 91, 103),
        ]);
        assert_eq!(
            told(&seen, &bounds(104, false)),
            [(0, 13, true), (90, 104, true)]
        );
    }

    #[test]
    fn a_part_that_may_be_long_is_uncertain() {
        let seen = gap(&[(Place::Outside, 1, 40), (Place::Inside, 45, 48)]);
        assert_eq!(told(&seen, &bounds(51, false)), [(40, 51, false)]);
    }

    #[test]
    fn waiting_for_a_cpu_is_nobodys_fault() {
        let mut bounds = bounds(30, false);
        bounds.split = Split {
            on_cpu_ns: 2 * MS,
            runnable_ns: 28 * MS,
            blocked_ns: 0,
        };
        assert_eq!(told(&Gap::default(), &bounds), []);
    }

    #[test]
    fn what_follows_the_last_stack_before_another_block_on_is_not_counted() {
        let seen = gap(&[(Place::Inside, 1, 12), (Place::Outside, 13, 60)]);
        assert_eq!(told(&seen, &bounds(80, true)), [(0, 13, true)]);
        let seen = gap(&[(Place::Inside, 1, 12)]);
        assert_eq!(told(&seen, &bounds(80, true)), [(0, 12, true)]);
    }
}
