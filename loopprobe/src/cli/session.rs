//! What `attach`, `run` and `record` share; a limit below the threshold lowers the threshold.

use clap::Args;

use super::{GateArgs, GlobalArgs, MonitorArgs, ObserveArgs, SnapshotOnArgs};
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
    /// When to take a snapshot.
    #[command(flatten)]
    pub snapshot: SnapshotOnArgs,
}

impl SessionArgs {
    /// Why these options cannot be had together.
    pub fn refusal(&self) -> Option<String> {
        let otlp = || self.monitor.otlp.refusal();
        let refusal = self.observe.refusal().or_else(|| self.snapshot.refusal());
        refusal.or_else(otlp)
    }

    /// What these options mean for a process. A limit below the threshold could not be seen, so it
    /// lowers the threshold.
    pub fn options(&self, pid: u32, global: &GlobalArgs) -> Options {
        let mut options = self.observe.options(pid, global);
        if let Some(limit) = self.gate.least() {
            let threshold = options.threshold().at_most(limit);
            options = options.with_threshold(threshold);
        }
        self.snapshot.widen(self.monitor.alert.widen(options))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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

    #[test]
    fn min_block_follows_the_threshold() {
        assert_eq!(
            options(&["--threshold", "1s"]).least_block(),
            Duration::from_millis(1)
        );
        assert_eq!(
            options(&["--threshold", "500us"]).least_block(),
            Duration::from_micros(50)
        );
        assert_eq!(
            options(&["--min-block", "3ms"]).least_block(),
            Duration::from_millis(3)
        );
    }

    #[test]
    fn a_fitted_threshold_stays_below_what_must_be_seen() {
        let bounds = |args: &[&str]| options(args).auto_threshold.unwrap();
        let plain = bounds(&["--threshold", "auto"]);
        assert_eq!(plain, crate::collect::AutoThreshold::default());
        let begin = options(&["--threshold", "auto"]).threshold;
        assert_eq!(begin, Options::DEFAULT_THRESHOLD);
        let gated = ["--threshold", "auto", "--fail-over", "20ms"];
        assert_eq!(bounds(&gated).at_most, Duration::from_millis(20));
        let alerting = [&gated[..], &["--on-alert", "x", "--warn", "500us"]].concat();
        let both = bounds(&alerting);
        let least = Duration::from_micros(500);
        assert_eq!((both.at_least, both.at_most), (least, least));
    }

    #[test]
    fn a_poll_that_a_snapshot_is_taken_of_is_seen_and_reported_by_then() {
        let early = options(&["--snapshot-on", "200ms", "--threshold", "2s"]);
        let age = Duration::from_millis(200);
        assert_eq!((early.threshold, early.report_open_after), (age, age));
        let late = options(&["--snapshot-on", "5s"]);
        assert_eq!(late.report_open_after, Options::DEFAULT_OPEN_AFTER);
        assert!(Typed::try_parse_from(["x", "--snapshot-on", "99ms"]).is_err());
        let lone = Typed::parse_from(["x", "--snapshot-to", "."]);
        assert!(lone.session.refusal().is_some());
    }

    #[test]
    fn an_interval_is_at_least_a_tenth_of_a_second() {
        let second = Some(Duration::from_secs(1));
        assert_eq!(options(&["--interval", "1s"]).interval, second);
        assert!(Typed::try_parse_from(["x", "--interval", "99ms"]).is_err());
        assert!(Typed::try_parse_from(["x", "--interval", "0"]).is_err());
    }
}
