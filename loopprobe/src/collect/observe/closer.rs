//! With `--mode auto`: exact probes for a while, on the types of which watching has found that a
//! poll was long or may have been.
//!
//! A closer look is a session of its own, in a thread of its own, with few probes. What it reports
//! takes the place of what watching says of the same polls.

use std::{collections::HashSet, io, time::Duration};

use super::{Observer, changes::notice, settings::UNSAMPLED};
use crate::{
    clock::{nanoseconds, now_ns},
    collect::{
        ObserveError, Options, Stop,
        beside::{Beside, Teller, Told},
        images::Known,
        source::closer::{Covered, Look},
    },
    model::{Event, LongPoll, Mode, Session, Sink, Step, Summary, TaskType},
};

/// How long the probes stay.
const LOOK: Duration = Duration::from_secs(10);
/// How much longer they stay at the most where a poll is open that has been told of.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// At no more poll sites at a time.
const MOST_SITES: usize = 64;
/// They go before their time where they cost more of the process's CPU time than this.
const MOST_OVERHEAD: f64 = 0.05;

impl Observer {
    /// Begins a look where there is cause, and ends one whose time has come.
    pub(super) fn look_closer(&mut self, now: u64, sink: &mut dyn Sink) -> io::Result<()> {
        let Some(closer) = self.source.closer_mut() else {
            return Ok(());
        };
        if let Some(look) = &closer.look {
            let patience_ns = if look.beside.open.is_empty() {
                0
            } else {
                nanoseconds(LONGEST_WAIT)
            };
            if !look.is_ending && now >= look.until_ns.saturating_add(patience_ns) {
                closer.end();
            }
            return Ok(());
        }
        if closer.has_failed {
            return Ok(());
        }
        let due = closer.suspects.due(now);
        if due.is_empty() {
            return Ok(());
        }
        self.begin_look_at(due, now, sink)
    }

    fn begin_look_at(
        &mut self,
        due: Vec<TaskType>,
        now: u64,
        sink: &mut dyn Sink,
    ) -> io::Result<()> {
        let (chosen, refused) = self.choose(due);
        let Some(closer) = self.source.closer_mut() else {
            return Ok(());
        };
        for (task, why) in &refused {
            closer.suspects.refuse(task);
            notice(
                sink,
                now,
                format!("{} is not looked at closer: {why}", task.name),
            )?;
        }
        let Chosen {
            types,
            others,
            sites,
        } = chosen;
        if types.is_empty() {
            return Ok(());
        }
        let known = Known::of(&self.planned, types.clone());
        let options = options_of(&self.options);
        let beside = Beside::start("loopprobe-closer", &closer.ready, move |teller, stop| {
            look(&options, known, teller, stop)
        })?;
        self.totals.looks.most_sites = self.totals.looks.most_sites.max(sites as u64);
        closer.look = Some(Look {
            covered: Covered {
                types,
                from_ns: u64::MAX,
                to_ns: None,
            },
            others,
            until_ns: u64::MAX,
            is_ending: false,
            is_dear: false,
            beside,
            found: HashSet::new(),
        });
        Ok(())
    }

    /// Of the types that are due, those for which there is room; and those for which there never
    /// is.
    fn choose(&self, due: Vec<TaskType>) -> (Chosen, Vec<(TaskType, String)>) {
        let facts = self.planned.iter().filter_map(|p| p.runtime.as_ref());
        let sites: Vec<Vec<&TaskType>> = facts
            .flat_map(|image| &image.facts().sites)
            .map(|site| site.types.iter().map(|served| &served.task).collect())
            .collect();
        let (mut chosen, mut refused) = (Chosen::default(), Vec::new());
        let mut taken = vec![false; sites.len()];
        for task in due {
            let own: Vec<usize> = (0..sites.len())
                .filter(|&site| sites[site].contains(&&task))
                .collect();
            let more = own.iter().filter(|&&site| !taken[site]).count();
            if own.is_empty() {
                let why = "where its tasks are polled is not known by its name".to_owned();
                refused.push((task, why));
            } else if own.len() > MOST_SITES {
                let why = format!("it is polled at {} places", own.len());
                refused.push((task, why));
            } else if chosen.sites + more <= MOST_SITES {
                chosen.sites += more;
                own.iter().for_each(|&site| taken[site] = true);
                chosen.types.insert(task);
            }
        }
        let taken = taken.iter().zip(&sites).filter(|(taken, _)| **taken);
        let served = taken.flat_map(|(_, types)| types.iter().copied());
        chosen.others = served
            .filter(|task| !chosen.types.contains(task))
            .cloned()
            .collect();
        (chosen, refused)
    }

    /// Takes what a look has told.
    pub(super) fn hear_closer(&mut self, sink: &mut dyn Sink) -> io::Result<()> {
        let Some(closer) = self.source.closer_mut() else {
            return Ok(());
        };
        // It fails if it has not been written to.
        let _ = closer.ready.read();
        let Some(look) = &closer.look else {
            return Ok(());
        };
        let is_over = look.beside.is_over();
        let told = look.beside.heard();
        for told in told {
            match told {
                Told::Began(session) => self.begun(&session, sink)?,
                Told::Poll(poll) => self.seen_closer(*poll, sink)?,
                Told::Dear(step, from_ns) => self.too_dear(step, from_ns, sink)?,
            }
        }
        if is_over {
            self.looked_closer(sink)?;
        }
        Ok(())
    }

    fn begun(&mut self, session: &Session, sink: &mut dyn Sink) -> io::Result<()> {
        let from_ns = session.start_ns;
        let Some(look) = self
            .source
            .closer_mut()
            .and_then(|closer| closer.look.as_mut())
        else {
            return Ok(());
        };
        look.covered.from_ns = from_ns;
        look.until_ns = from_ns.saturating_add(nanoseconds(LOOK));
        let mut names: Vec<&str> = look.covered.types.iter().map(|t| t.name.as_str()).collect();
        names.sort_unstable();
        let seconds = LOOK.as_secs();
        notice(
            sink,
            from_ns,
            format!(
                "probes for {seconds} s, to time each poll exactly of {}",
                names.join(", ")
            ),
        )?;
        let is_unsampled = session.limits.iter().any(|limit| limit == UNSAMPLED);
        if is_unsampled {
            notice(sink, from_ns, UNSAMPLED.to_owned())?;
        }
        Ok(())
    }

    fn seen_closer(&mut self, mut poll: LongPoll, sink: &mut dyn Sink) -> io::Result<()> {
        if !self.cut(&mut poll) {
            return Ok(());
        }
        let Some(closer) = self.source.closer_mut() else {
            return Ok(());
        };
        let others = closer.look.as_ref().map(|look| &look.others);
        if others.is_none_or(|others| others.contains(&poll.task)) {
            return Ok(());
        }
        closer.told(&poll);
        let has_watched = closer.has_watched(&poll);
        let Some(look) = &mut closer.look else {
            return Ok(());
        };
        look.found.insert(poll.task.clone());
        if has_watched {
            return Ok(());
        }
        if look.beside.keep(&poll) {
            self.totals.looks.long_polls += 1;
            self.totals.count_unprobed(&poll);
        }
        sink.event(&Event::LongPoll(poll))
    }

    /// Cuts a poll of a session beside at the end of this one, which that may outlive. Whether a
    /// long one remains.
    pub(super) fn cut(&self, poll: &mut LongPoll) -> bool {
        let Some(end_ns) = self.span.end_ns else {
            return true;
        };
        if poll.start_ns.saturating_add(poll.duration_ns) > end_ns {
            poll.duration_ns = end_ns.saturating_sub(poll.start_ns);
            poll.ended = false;
            poll.split = None;
            if let Some(bounds) = &mut poll.bounds {
                bounds.duration_lo_ns = poll.duration_ns;
                bounds.duration_hi_ns = None;
            }
        }
        poll.duration_ns > 0 && poll.duration_ns >= nanoseconds(self.options.threshold)
    }

    /// A look sees less from `from_ns` on, and with most steps nothing.
    fn too_dear(&mut self, step: Step, from_ns: u64, sink: &mut dyn Sink) -> io::Result<()> {
        let Some(closer) = self.source.closer_mut() else {
            return Ok(());
        };
        if let Some(look) = closer.look.as_mut().filter(|_| !step.is_probed()) {
            look.covered.end(from_ns);
        }
        let share = options_of(&self.options).max_overhead.unwrap_or_default() * 100.0;
        let look = closer.look.as_mut().filter(|look| !look.is_dear);
        let Some(look) = look else { return Ok(()) };
        look.is_dear = true;
        closer.end();
        notice(
            sink,
            now_ns(),
            format!(
                "the probes go before their time: they cost more than {share}% of the process's CPU time"
            ),
        )
    }

    /// A look is over: its thread has ended.
    fn looked_closer(&mut self, sink: &mut dyn Sink) -> io::Result<()> {
        let is_gone = self.is_gone();
        let Some(closer) = self.source.closer_mut() else {
            return Ok(());
        };
        let Some(look) = closer.look.take() else {
            return Ok(());
        };
        let Look {
            mut covered,
            beside,
            found,
            is_dear,
            ..
        } = look;
        // Polls that outlived it are counted as far as it saw them.
        for poll in beside.open.values() {
            self.totals.count_unprobed(poll);
        }
        let summary = match beside.join() {
            Ok(summary) => summary,
            // The process's end is told elsewhere.
            Err(_) if is_gone => return Ok(()),
            Err(why) => {
                closer.has_failed = true;
                return fail(&why, sink);
            }
        };
        let now = now_ns();
        let to_ns = covered.from_ns.saturating_add(summary.duration_ns);
        covered.end(to_ns);
        let to_ns = covered.to_ns.unwrap_or(to_ns);
        for task in &covered.types {
            if is_dear {
                closer.suspects.dear(task, now);
            } else {
                closer.suspects.timed(task, found.contains(task), now);
            }
        }
        closer.past = Some(covered);
        self.totals.count_look(&summary);
        let polls = summary.polls.unwrap_or(0);
        notice(
            sink,
            to_ns,
            format!("the probes are gone: {polls} polls were timed exactly"),
        )
    }

    /// Ends the look that goes on, and waits for the rest of what it has to tell.
    pub(super) fn end_closer(&mut self, sink: &mut dyn Sink) -> io::Result<()> {
        let Some(closer) = self.source.closer_mut() else {
            return Ok(());
        };
        closer.end();
        if let Some(look) = &closer.look {
            look.beside.wait();
        }
        self.hear_closer(sink)
    }
}

/// What a look is at.
#[derive(Default)]
struct Chosen {
    types: HashSet<TaskType>,
    /// See [`Look::others`].
    others: HashSet<TaskType>,
    sites: usize,
}

/// No look comes to anything here.
fn fail(why: &str, sink: &mut dyn Sink) -> io::Result<()> {
    notice(
        sink,
        now_ns(),
        format!("no probe can be placed, so nothing is timed exactly: {why}"),
    )
}

/// The options of a look of a session with these.
fn options_of(options: &Options) -> Options {
    Options {
        mode: Mode::Exact,
        max_overhead: Some(options.max_overhead.unwrap_or(1.0).min(MOST_OVERHEAD)),
        ..options.beside()
    }
}

fn look(
    options: &Options,
    known: Known,
    teller: &mut Teller,
    stop: &Stop,
) -> Result<Summary, ObserveError> {
    Observer::attach_to(options, known)?.run(teller, stop)
}
