//! What a session cost the target, by part.

use loopprobe_common::cost::Part;

use crate::{
    attach::{AttachError, DeadTime, Kernel, ProbeTiming},
    model::ProbeCost,
};

/// What probes cost on this machine, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Prices {
    /// Those of a poll.
    poll: f64,
    /// A single one.
    entry: f64,
    /// How much more if the thread comes from waiting.
    cold: f64,
}

impl From<&ProbeTiming> for Prices {
    fn from(timing: &ProbeTiming) -> Self {
        Self {
            poll: timing.ns_per_poll,
            entry: timing.ns_per_entry,
            cold: timing.cold_ns,
        }
    }
}

/// Adds up what a session has cost.
///
/// # Errors
///
/// [`AttachError::Map`].
pub(super) fn bill(
    kernel: &Kernel,
    prices: Prices,
    polls: u64,
    dead_time: DeadTime,
) -> Result<ProbeCost, AttachError> {
    let runs = |part| kernel.cost(part).map(|cost| cost.runs as f64);
    let probes = prices.poll * polls as f64
        + prices.entry * runs(Part::Loop)?
        + prices.cold * runs(Part::Cold)?;
    let stacks_ns = kernel.cost(Part::Stack)?.total_ns();
    let scheduler_ns = kernel.cost(Part::Switch)?.total_ns() + kernel.cost(Part::Wake)?.total_ns();
    let mut cost = ProbeCost {
        ns_per_poll: prices.poll,
        probes_ns: probes as u64,
        // In these, stacks are taken and sent.
        scheduler_ns: scheduler_ns.saturating_sub(stacks_ns),
        stacks_ns,
        samples_ns: kernel.cost(Part::Sample)?.total_ns(),
        dead_start_ns: dead_time.start_ns,
        dead_end_ns: dead_time.end_ns,
        total_ns: 0,
    };
    cost.total_ns = cost.probes_ns + cost.scheduler_ns + cost.stacks_ns + cost.samples_ns;
    Ok(cost)
}
