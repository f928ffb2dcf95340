//! Keeps to the budget: takes fewer stacks, takes the probes away for a while, and goes on later.

use std::{io, os::fd::AsFd as _};

use loopprobe_common::config::Config;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::Observer;
use crate::{
    attach::AttachError,
    clock::{nanoseconds, now_ns},
    collect::{
        budget::{Budget, Change, Fallbacks, Reading},
        health::Period,
        polls::open_polls,
        stuck::Stuck,
        summary::summarize,
    },
    model::{Event, Notice, Sink, Step},
    process,
};

impl Observer {
    /// Begins to keep account, where that is wanted.
    pub(super) fn begin_budget(&mut self) -> io::Result<()> {
        if let Some(share) = self.options.max_overhead {
            let now = self.reading(self.span.now())?;
            self.budget = Some(Budget::new(share, now));
            self.begin_retiming()?;
        }
        Ok(())
    }

    /// Whether the probes are away at the moment, to keep to the budget.
    pub(super) fn is_paused(&self) -> bool {
        self.budget
            .as_ref()
            .is_some_and(|budget| budget.paused_since().is_some())
    }

    /// Looks at what the last second has cost, and observes less or more from now on.
    pub(super) fn keep_budget(&mut self, sink: &mut dyn Sink) -> io::Result<()> {
        self.change_timing(sink)?;
        let now = self.span.now();
        if !self
            .budget
            .as_ref()
            .is_some_and(|budget| budget.is_due(now))
        {
            return Ok(());
        }
        let reading = self.reading(now)?;
        let Some(mut budget) = self.budget.take() else {
            return Ok(());
        };
        let change = budget.look(reading, || Fallbacks {
            entries: self.price_of_entries(),
            watching: self.can_stand_in(),
        });
        self.budget = Some(budget);
        if let Some(change) = change {
            self.change_step(change, now, sink)?;
        }
        self.totals.budget = self.budget.as_ref().map(|budget| budget.said);
        Ok(())
    }

    /// At the session's end.
    pub(super) fn close_budget(&mut self) {
        let now = self.span.now();
        if let Some(budget) = &mut self.budget {
            budget.count(now);
            self.totals.budget = Some(budget.said);
        }
    }

    /// What the session has cost and the process has used by now.
    fn reading(&self, now: u64) -> io::Result<Reading> {
        let (summary, _) =
            summarize(&self.kernel, &self.plan, self.totals.clone()).map_err(io::Error::other)?;
        // The process may be gone; its end is noticed elsewhere.
        let cpu_ns = process::cpu_ns(self.options.pid).unwrap_or(0);
        Ok(Reading::of(&summary.cost.unwrap_or_default(), cpu_ns, now))
    }

    fn change_step(&mut self, change: Change, now: u64, sink: &mut dyn Sink) -> io::Result<()> {
        if let Some(mode) = change.timing {
            return self.begin_to_retime(mode);
        }
        self.begin_step(change.step);
        if !change.step.is_probed() {
            return self.go_away(change, now, sink);
        }
        if change.step != Step::Full && change.cost.is_none() {
            self.end_stand_in(sink)?;
            match self.go_on(now) {
                // Its end is noticed elsewhere.
                Err(_) if self.is_gone() => {}
                result => result.map_err(io::Error::other)?,
            }
        } else {
            self.configure()?;
        }
        self.tell_step(change, now, sink)
    }

    /// Takes the probes away, which can take a second. That is told before: a session beside leaves
    /// to this one what it sees too, until then.
    fn go_away(&mut self, change: Change, now: u64, sink: &mut dyn Sink) -> io::Result<()> {
        self.tell_step(change, now, sink)?;
        self.pause(now)?;
        if change.step == Step::Watched {
            self.begin_stand_in()?;
        }
        Ok(())
    }

    fn begin_step(&mut self, step: Step) {
        let stacks = self.options.stacks && step == Step::Full;
        if let Some(stacks) = &mut self.stacks {
            stacks.are_taken = step == Step::Full;
        }
        if let Some(canary) = &mut self.canary {
            canary.begin_anew(&self.options, stacks);
        }
    }

    /// Times polls otherwise, where that is to come and can be done by now.
    fn change_timing(&mut self, sink: &mut dyn Sink) -> io::Result<()> {
        let Some(result) = self.retime(sink)? else {
            return Ok(());
        };
        let now = self.span.now();
        let Some(budget) = &mut self.budget else {
            return Ok(());
        };
        if let Err(why) = result {
            let step = budget.keep_timing();
            let message = format!("polls are timed as before, in spite of the budget: {why}");
            return tell(sink, step, now, message);
        }
        let Some(change) = budget.changed_timing(now) else {
            return Ok(());
        };
        self.begin_step(change.step);
        self.configure()?;
        self.tell_step(change, now, sink)
    }

    /// Whether the process is gone.
    pub(super) fn is_gone(&self) -> bool {
        let mut exit = [PollFd::new(self.exit.as_fd(), PollFlags::POLLIN)];
        poll(&mut exit, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    /// From now on the programs change nothing, and no probe is in the process.
    pub(super) fn pause(&mut self, now: u64) -> io::Result<()> {
        self.configure()?;
        let over = Config {
            end_ns: now,
            ..self.config()
        };
        self.kernel.set_config(&over).map_err(io::Error::other)?;
        self.kernel.detach();
        let threads = self.kernel.threads().map_err(io::Error::other)?;
        let cut: usize = threads
            .iter()
            .map(|(_, thread)| open_polls(thread).len())
            .sum();
        if let Some(budget) = &mut self.budget {
            budget.said.cut_polls += cut as u64;
        }
        self.see_health(&[], now, true)?;
        // What is on a stack later may be another poll.
        if let Some(stuck) = self.stuck.take() {
            self.totals.lost.unwalked_threads = Stuck::uncertain(&stuck);
        }
        if self.values.next_interval.is_some() {
            self.values.next_interval = Some(u64::MAX);
        }
        self.kernel.forget_threads().map_err(io::Error::other)
    }

    /// Begins anew, as at an attach.
    pub(super) fn go_on(&mut self, now: u64) -> Result<(), AttachError> {
        self.kernel.forget_threads()?;
        self.place_again()?;
        // What was scheduled before may have been polled meanwhile.
        self.values.wakes_from_ns = now_ns();
        let config = self.config();
        self.kernel.set_config(&config)?;
        let counted = self.counted()?;
        let delays = self.delays()?;
        self.values.interval = Period::begin(now_ns(), counted, None).with_delays(delays);
        self.values.since_live = self.values.interval.clone();
        let every = self.options.interval;
        self.values.next_interval = every.map(|every| now.saturating_add(nanoseconds(every)));
        Ok(())
    }

    fn tell_step(&self, change: Change, now: u64, sink: &mut dyn Sink) -> io::Result<()> {
        let limit = self.options.max_overhead.unwrap_or_default() * 100.0;
        let cost = change.cost.unwrap_or_default() * 100.0;
        let seconds = change.pause_ns / 1_000_000_000;
        let over = format!(
            "observation cost {cost:.1}% of the process's CPU time, over --max-overhead {limit}%"
        );
        let away = format!("{over}: the probes are taken away for {seconds} s");
        let message = match (change.step, change.cost) {
            (Step::Full, _) => "stacks are taken again".to_owned(),
            (Step::NoStacks | Step::EntryOnly, None) => {
                "the process is looked at again, without stacks at first".to_owned()
            }
            (Step::NoStacks, Some(_)) if change.timing.is_some() => {
                "both ends of polls are probed again, without stacks at first".to_owned()
            }
            (Step::NoStacks, Some(_)) => format!("{over}: no stacks are taken from now on"),
            (Step::EntryOnly, Some(_)) => format!(
                "{over}: polls are timed by their entries alone from now on, and no stacks are taken"
            ),
            (Step::Watched, _) => {
                format!("{away}; polls are watched meanwhile, and told between bounds")
            }
            (Step::Paused, _) => format!("{away}; nothing is seen meanwhile"),
        };
        tell(sink, change.step, now, message)
    }

    /// Says why the rest of the time without probes is not watched.
    pub(super) fn tell_blind(
        &self,
        change: Change,
        why: &str,
        now: u64,
        sink: &mut dyn Sink,
    ) -> io::Result<()> {
        let seconds = change.pause_ns / 1_000_000_000;
        let message = format!("{why}: nothing is seen for the next {seconds} s");
        tell(sink, change.step, now, message)
    }

    /// What there is to do while the probes are away.
    pub(super) fn tick_paused(&mut self, now: u64, sink: &mut dyn Sink) -> io::Result<()> {
        self.settle_waiting(now, sink)?;
        if let Some(stacks) = &mut self.stacks {
            stacks.tick(now, self.records.len() == 0, |_| false);
        }
        self.tell_snapshot(&[], now, sink)
    }
}

fn tell(sink: &mut dyn Sink, step: Step, time_ns: u64, message: String) -> io::Result<()> {
    sink.event(&Event::Notice(Notice {
        time_ns,
        message,
        threshold_ns: None,
        step: Some(step),
    }))
}
