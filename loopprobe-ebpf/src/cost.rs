//! Counts what loopprobe costs the target, beside the probes of polls, which are counted anyway.

use loopprobe_common::{
    cost::{Cost, Part},
    thread::Thread,
};

use crate::{clock::now, maps};

/// Counts a run that is not timed.
#[inline(always)]
pub fn count(target: u32, part: Part) {
    if let Some(cost) = of(target, part) {
        cost.runs += 1;
    }
}

/// Counts a run that began at `start_ns`, and times one in sixteen: reading the clock costs a tenth
/// of such a run.
#[inline(always)]
pub fn some(target: u32, part: Part, start_ns: u64) {
    const OUT_OF: u64 = 16; // The clock's lowest bits are as good as chance.
    if let Some(cost) = of(target, part) {
        cost.runs += 1;
        if start_ns % OUT_OF == 0 {
            cost.timed += 1;
            cost.timed_ns += now() - start_ns;
        }
    }
}

/// Counts and times a run that began at `start_ns`.
#[inline(always)]
pub fn each(target: u32, part: Part, start_ns: u64) {
    if let Some(cost) = of(target, part) {
        cost.runs += 1;
        cost.timed += 1;
        cost.timed_ns += now() - start_ns;
    }
}

/// A probe is hit: counts it as cold if it is the thread's first one since it was back on a CPU.
#[inline(always)]
pub fn probe(thread: &mut Thread) {
    if thread.flags & Thread::FRESH != 0 {
        thread.flags &= !Thread::FRESH;
        count(thread.target, Part::Cold);
    }
}

#[inline(always)]
fn of(target: u32, part: Part) -> Option<&'static mut Cost> {
    // SAFETY: the pointer is to this CPU's own value, and lives as long as the map.
    maps::cost(target, part).map(|cost| unsafe { &mut *cost })
}
