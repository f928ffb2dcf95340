use std::time::Duration;

use clap::Args;

use super::{GateArgs, GlobalArgs, MonitorArgs, ObserveArgs};
use crate::collect::Options;

/// What a session is to do, whichever of `attach`, `run` and `record` starts it.
#[derive(Args, Clone, Debug)]
pub struct SessionArgs {
    /// Who learns of it while it runs.
    #[command(flatten)]
    pub monitor: MonitorArgs,
    /// When it has failed.
    #[command(flatten)]
    pub gate: GateArgs,
    /// What to observe.
    #[command(flatten)]
    pub observe: ObserveArgs,
}

impl SessionArgs {
    /// What these options mean for a process. A limit below the threshold could not be seen, so it lowers the threshold.
    pub fn options(&self, pid: u32, global: &GlobalArgs) -> Options {
        let lowered = |observe: &ObserveArgs, limit: Duration| ObserveArgs {
            threshold: observe.threshold.min(limit),
            ..observe.clone()
        };
        let observe = match self.gate.least() {
            Some(limit) => &lowered(&self.observe, limit),
            None => &self.observe,
        };
        self.monitor.alert.widen(observe.options(pid, global))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Typed {
        #[command(flatten)]
        global: GlobalArgs,
        #[command(flatten)]
        session: SessionArgs,
    }

    fn options(args: &[&str]) -> Options {
        let typed = Typed::parse_from([&["x"], args].concat());
        typed.session.options(7, &typed.global)
    }

    #[test]
    fn the_defaults_are_those_of_the_library() {
        let (typed, library) = (options(&[]), Options::new(7));
        assert_eq!(format!("{typed:?}"), format!("{library:?}"));
    }

    #[test]
    fn a_limit_below_the_threshold_lowers_it() {
        for limit in ["--fail-over", "--fail-over-wall"] {
            let low = options(&[limit, "2ms"]);
            assert_eq!(low.threshold, Duration::from_millis(2));
            assert_eq!(low.least_block(), Duration::from_micros(200));
            assert_eq!(options(&[limit, "2s"]).threshold, Duration::from_millis(10));
        }
    }
}
