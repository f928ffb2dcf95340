//! How many processes are observed, or could not be, as metrics.

use std::fmt;

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder, metrics::MetricType};

/// How many processes are observed, and how many that should be are not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Targets {
    /// Under observation.
    pub observed: u64,
    /// About to be.
    pub attaching: u64,
    /// Could not be attached to; it is tried again.
    pub failed: u64,
    /// Left out for their number.
    pub over_limit: u64,
    /// Chosen, but their files could not be read, so whether they use Tokio is not known.
    pub unreadable: u64,
}

impl Targets {
    /// Each with the name of its state.
    pub fn by_state(self) -> [(&'static str, u64); 5] {
        [
            ("observed", self.observed),
            ("attaching", self.attaching),
            ("failed", self.failed),
            ("over_limit", self.over_limit),
            ("unreadable", self.unreadable),
        ]
    }
}

impl Collector for Targets {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut targets = encoder.encode_descriptor(
            "loopprobe_targets",
            "Processes that were chosen, by what became of that",
            None,
            MetricType::Gauge,
        )?;
        for (state, count) in self.by_state() {
            targets
                .encode_family(&[("state", state)].to_vec())?
                .encode_gauge(&(count as i64))?;
        }
        Ok(())
    }
}
