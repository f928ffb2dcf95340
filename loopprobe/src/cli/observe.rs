//! Options of a measurement: threshold, duration, samples a second, stacks, debug files.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};

use super::{GlobalArgs, parse_duration};
use crate::{
    collect::{AutoThreshold, Options, Threshold},
    model::Mode,
};

/// The heading of options that few need, behind the common ones in `--help`.
const MEASURING: &str = "Measuring";

/// What to observe, and when to stop: shared by `attach`, `run` and every command that watches a
/// process.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = None::<&'static str>)]
pub struct ObserveArgs {
    /// Stop after this long; without it, on Ctrl-C or when the process ends
    #[arg(long, short, display_order = 3, value_name = "TIME", value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// Report polls that take at least this long: 500us, 10ms, 1s; 0 reports every poll; `auto`
    /// fits it to the process
    #[arg(long, short, display_order = 4, value_name = "TIME", value_parser = parse_threshold, default_value = "10ms")]
    pub threshold: Threshold,
    /// Say this often how busy workers are and how long nobody turned the driver: 1s; at least
    /// 100ms
    #[arg(long, display_order = 7, value_name = "TIME", value_parser = parse_interval)]
    pub interval: Option<Duration>,
    /// Tell how long tasks wait from their wake to their poll, and behind which calls; each wake
    /// then costs the process about two thirds of what a poll does
    #[arg(long, display_order = 8)]
    pub lag: bool,
    /// Tell of tasks that nothing can wake any more once they have been so for this long, of locks
    /// that nobody takes, and of task types that only become more for four times as long: 30s; at
    /// least 1s
    #[arg(long, display_order = 9, value_name = "TIME", value_parser = parse_stuck)]
    pub stuck: Option<Duration>,
    /// Tell of tasks that live for this long, with what they await, and of those whose polls take
    /// this long together: 5s; at least 1s
    #[arg(long, display_order = 10, value_name = "TIME", value_parser = parse_stuck)]
    pub slow_task: Option<Duration>,
    /// Take the stack of a poll that waits in the kernel for at least this long
    /// [default: the smaller of 1ms and a tenth of the threshold]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = MEASURING)]
    pub min_block: Option<Duration>,
    /// Samples a second of long polls that compute; 0 takes none
    #[arg(long, help_heading = MEASURING, value_name = "HZ", default_value_t = 499, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub sample_hz: u32,
    /// Time polls only: no stacks, no causes
    #[arg(long, help_heading = MEASURING)]
    pub no_stacks: bool,
    /// How polls are seen: `exact` probes where they begin and return, `light` where they begin,
    /// `watch` places no probe at all and tells only of polls that waited for the threshold or
    /// longer, `auto` watches and probes for ten seconds what may have taken long [default: exact]
    #[arg(long, help_heading = MEASURING, value_name = "MODE", conflicts_with = "light")]
    pub mode: Option<ModeArg>,
    /// Short for --mode light: probe where polls begin, not where they return: costs the process
    /// less; a poll ends where the next one begins or the worker parks. Programs without unwind
    /// information are timed exactly all the same
    #[arg(long, help_heading = MEASURING)]
    pub light: bool,
    /// Let observation cost the process no more of its CPU time than this: 1%; over it, stacks are
    /// left out, or the probes taken away for a while, which the report says (docs/overhead.md)
    #[arg(long, help_heading = MEASURING, value_name = "SHARE", value_parser = parse_share)]
    pub max_overhead: Option<f64>,
    /// A separate debug file for the program or one of its libraries; may be repeated
    #[arg(long, help_heading = MEASURING, value_name = "FILE")]
    pub debug_file: Vec<PathBuf>,
}

impl ObserveArgs {
    /// What these options mean for a process.
    pub fn options(&self, pid: u32, global: &GlobalArgs) -> Options {
        let options = Options {
            mode: self.mode(),
            duration: self.duration,
            min_block: self.min_block,
            sample_hz: self.sample_hz,
            stacks: !self.no_stacks,
            interval: self.interval,
            lag: self.lag,
            stuck: self.stuck,
            max_overhead: self.max_overhead,
            slow_task: self.slow_task,
            debug_files: self.debug_file.clone(),
            cache: global.cache(),
            kernel_log: global.kernel_log(),
            ..Options::new(pid)
        };
        options.with_threshold(self.threshold)
    }
}

impl ObserveArgs {
    /// How polls are seen.
    pub fn mode(&self) -> Mode {
        match self.mode {
            Some(ModeArg::Exact) => Mode::Exact,
            Some(ModeArg::Light) => Mode::Light,
            Some(ModeArg::Watch) => Mode::Watch,
            Some(ModeArg::Auto) => Mode::Auto,
            None if self.light => Mode::Light,
            None => Mode::Exact,
        }
    }

    /// Why these options cannot be had together: what only a probe at each poll tells is not known
    /// where threads are watched.
    pub fn refusal(&self) -> Option<String> {
        let asked = match self.threshold {
            _ if self.mode().counts_polls() => return None,
            Threshold::Fixed(threshold) if threshold.is_zero() => {
                "--threshold 0 asks for each poll"
            }
            Threshold::Auto(_) => "--threshold auto is fitted to all polls",
            Threshold::Fixed(_) if self.interval.is_some() => {
                "--interval tells how busy workers are"
            }
            Threshold::Fixed(_) if self.lag => "--lag counts from each wake to its poll",
            Threshold::Fixed(_) => return None,
        };
        let mode = if self.mode() == Mode::Auto {
            "auto"
        } else {
            "watch"
        };
        Some(format!(
            "{asked}, and --mode {mode} does not count polls: use --mode light or --mode exact"
        ))
    }
}

/// How polls are seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ModeArg {
    /// Probes where polls begin and where they return
    Exact,
    /// Probes where polls begin
    Light,
    /// No probes: the threads' own variables are read when they go off their CPUs, and in samples
    Watch,
    /// As watch, and probes for a while on the task types whose polls are or may be long
    Auto,
}

fn parse_threshold(text: &str) -> Result<Threshold, String> {
    match text.trim() {
        "auto" => Ok(Threshold::Auto(AutoThreshold::default())),
        time => parse_duration(time).map(Threshold::Fixed),
    }
}

/// A share as in `1%`, 0 to 1.
fn parse_share(text: &str) -> Result<f64, String> {
    let percent = text.trim().strip_suffix('%').map(str::trim);
    let percent = percent.and_then(|percent| percent.parse::<f64>().ok());
    percent
        .filter(|percent| (0.01..=100.0).contains(percent))
        .map(|percent| percent / 100.0)
        .ok_or_else(|| "a share is as 1%, at least 0.01% and at most 100%".to_owned())
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text)?;
    if interval < Options::SHORTEST_INTERVAL {
        return Err("an interval is at least 100ms".to_owned());
    }
    Ok(interval)
}

fn parse_stuck(text: &str) -> Result<Duration, String> {
    let least = parse_duration(text)?;
    if least < Duration::from_secs(1) {
        return Err("tasks are looked at over a second at least".to_owned());
    }
    Ok(least)
}
