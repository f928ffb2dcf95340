//! Calls of `block_on` again and again on one thread, with work between them that is nobody's
//! future: what a library with an inner runtime and a synchronous API does to its callers.

use std::time::Duration;

use tokio::runtime::Runtime;

use crate::truth::{Kind, Timed};
use crate::work::{block_ms, spin_ms};

/// Milliseconds outside, in turn.
const OUTSIDE: [u64; 4] = [20, 60, 35, 25];
/// Milliseconds that the future given to `block_on` keeps its thread, in turn.
const INSIDE: [u64; 5] = [0, 15, 0, 2, 30];

/// Blocks or computes, in turn.
fn keep(round: usize, ms: u64) {
    if round.is_multiple_of(2) {
        block_ms(ms);
    } else {
        spin_ms(ms);
    }
}

/// One stretch outside of any runtime.
#[inline(never)]
pub fn outside(round: usize) {
    keep(round, OUTSIDE[round % OUTSIDE.len()]);
}

/// One call of `block_on`. Its future keeps the thread at its beginning or at its end, and awaits a
/// timer.
#[inline(never)]
pub fn call(runtime: &Runtime, round: usize) {
    let ms = INSIDE[round % INSIDE.len()];
    runtime.block_on(Timed::new("root", Kind::Root, async move {
        let first = round % 3 == 0;
        if first {
            keep(round / 2, ms);
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
        if !first {
            keep(round / 2, ms);
        }
    }));
}
