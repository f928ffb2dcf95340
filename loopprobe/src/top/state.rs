//! What the live view knows, and what the user chose: focus, order, filter, pause, threshold.

use std::collections::{HashMap, VecDeque};

use crate::{
    model::{Event, Live, LongPoll, Session},
    report::{EachOnce, Fold, Histogram, key, words},
};

use super::{
    Action,
    seen::{Counted, Seen, View},
    workers::Busy,
};

/// So many long polls can be scrolled through.
const MAX_POLLS: usize = 1_000;
/// The threshold can be set between a microsecond and a minute.
const THRESHOLDS: std::ops::RangeInclusive<u64> = 1_000..=60_000_000_000;

/// What a list of the view gets the keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Focus {
    /// The task types.
    Tasks,
    /// The long polls.
    #[default]
    Polls,
}

/// What task types are sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortBy {
    /// Time in long polls.
    #[default]
    Blocked,
    /// How many long polls.
    Count,
    /// The longest poll.
    Longest,
    /// How many polls in all.
    Polls,
}

impl SortBy {
    fn next(self) -> Self {
        match self {
            Self::Blocked => Self::Count,
            Self::Count => Self::Longest,
            Self::Longest => Self::Polls,
            Self::Polls => Self::Blocked,
        }
    }

    /// The column's title.
    pub fn title(self) -> &'static str {
        match self {
            Self::Blocked => "blocked",
            Self::Count => "long",
            Self::Longest => "longest",
            Self::Polls => "polls",
        }
    }
}

/// A row of the task types.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskRow {
    /// The task type's name.
    pub name: String,
    /// Time in long polls, in nanoseconds.
    pub blocked_ns: u64,
    /// How many long polls.
    pub long: u64,
    /// The longest poll, in nanoseconds.
    pub max_ns: u64,
    /// How many polls; `None` where they are not counted.
    pub polls: Option<u64>,
}

/// What is known, and what the user has chosen to see of it.
#[derive(Debug, Default)]
pub struct State {
    /// The session's head.
    pub session: Option<Session>,
    /// The last snapshot.
    pub live: Live,
    /// How busy each worker was between the last two snapshots.
    pub busy: Busy,
    /// Polls a second, between the last two snapshots; `None` where they are not counted.
    pub rate: Option<f64>,
    /// The session so far, to draw.
    pub fold: Fold,
    /// Which list gets the keys.
    pub focus: Focus,
    /// What task types are sorted by.
    pub sort: SortBy,
    /// Only names and causes with this text are shown.
    pub filter: String,
    /// Whether the filter is being typed.
    pub typing: bool,
    /// Whether the display stands still.
    pub paused: bool,
    /// Whether the keys are shown.
    pub help: bool,
    /// What the last key did.
    pub message: Option<String>,
    /// The threshold that the user wants, in nanoseconds, until a snapshot has it.
    pub wanted_threshold_ns: Option<u64>,
    /// How the session ended.
    pub ended: Option<String>,
    selected_task: usize,
    /// The chosen poll by when it came; `None` follows the newest.
    selected_poll: Option<u64>,
    polls: VecDeque<(u64, LongPoll)>,
    seen: Seen,
    once: EachOnce,
    shown: Option<Shown>,
}

/// What stays on the screen while the display stands still.
#[derive(Debug)]
struct Shown {
    tasks: Vec<TaskRow>,
    newest: u64,
}

impl State {
    /// Takes the session's next event.
    pub fn event(&mut self, event: &Event) {
        self.fold.event(event);
        match event {
            Event::Session(session) => {
                self.live.threshold_ns = session.threshold_ns;
                self.session = Some(session.clone());
            }
            Event::LongPoll(poll) => self.poll(poll),
            Event::Notice(notice) => self.message = Some(notice.message.clone()),
            Event::Interval(_) => {}
            Event::Finding(finding) => self.message = Some(words::finding(finding)),
            Event::Summary(summary) => self.ended = Some(summary.reason.clone()),
        }
    }

    /// Takes a snapshot.
    pub fn snapshot(&mut self, live: Live) {
        let elapsed = live.time_ns.saturating_sub(self.live.time_ns);
        if self.live.time_ns > 0 && elapsed > 0 {
            let polls = live.polls.zip(self.live.polls);
            self.rate =
                polls.map(|(now, before)| now.saturating_sub(before) as f64 * 1e9 / elapsed as f64);
        }
        self.busy.update(&self.live, &live);
        if self.wanted_threshold_ns == Some(live.threshold_ns) {
            self.wanted_threshold_ns = None;
        }
        self.live = live;
    }

    fn poll(&mut self, poll: &LongPoll) {
        let number = self.polls.back().map_or(0, |(number, _)| number + 1);
        let same = |(_, old): &&mut (u64, LongPoll)| {
            old.tid == poll.tid && old.start_ns == poll.start_ns && !old.ended
        };
        match self.polls.iter_mut().rev().find(same) {
            Some((_, old)) => old.clone_from(poll),
            None => self.polls.push_back((number, poll.clone())),
        }
        if self.polls.len() > MAX_POLLS {
            self.polls.pop_front();
        }
        let Some(poll) = self.once.settle(poll) else {
            return;
        };
        self.busy.long_poll(poll);
        self.seen.add(poll);
    }

    /// Does what a key asked for, as far as it concerns the state alone.
    pub fn apply(&mut self, action: Action) {
        self.message = None;
        match action {
            Action::Quit | Action::Flamegraph => {}
            Action::Move(rows) => self.move_by(rows),
            Action::SwitchFocus => {
                self.focus = match self.focus {
                    Focus::Tasks => Focus::Polls,
                    Focus::Polls => Focus::Tasks,
                }
            }
            Action::Pause => self.pause(),
            Action::Sort => self.sort = self.sort.next(),
            Action::Filter => self.typing = true,
            Action::Type(c) => self.filter.push(c),
            Action::Erase => {
                self.filter.pop();
            }
            Action::Accept => self.typing = false,
            Action::Clear => {
                self.filter.clear();
                self.typing = false;
            }
            Action::Threshold { up } => self.change_threshold(up),
            Action::Help => self.help = !self.help,
            Action::Close if self.help => self.help = false,
            Action::Close => self.filter.clear(),
        }
    }

    fn pause(&mut self) {
        self.paused = !self.paused;
        self.shown = self.paused.then(|| Shown {
            tasks: self.all_tasks(),
            newest: self.polls.back().map_or(0, |(number, _)| *number),
        });
    }

    fn change_threshold(&mut self, up: bool) {
        let now = self.threshold_ns();
        let wanted = if up { now.saturating_mul(2) } else { now / 2 };
        self.wanted_threshold_ns = Some(wanted.clamp(*THRESHOLDS.start(), *THRESHOLDS.end()));
    }

    /// The threshold, or what the user has just set it to.
    pub fn threshold_ns(&self) -> u64 {
        self.wanted_threshold_ns.unwrap_or(self.live.threshold_ns)
    }

    fn move_by(&mut self, rows: isize) {
        match self.focus {
            Focus::Tasks => {
                let last = self.tasks().len().saturating_sub(1);
                self.selected_task = self.selected_task().saturating_add_signed(rows).min(last);
            }
            Focus::Polls => {
                let polls = self.polls();
                let last = polls.len().saturating_sub(1);
                let index = self.selected_poll().saturating_add_signed(rows).min(last);
                // The first row is the newest poll, and choosing it means to follow.
                self.selected_poll = match index {
                    0 => None,
                    _ => polls.get(index).map(|(number, _)| *number),
                };
            }
        }
    }

    /// The long polls to show, newest first, each with its number.
    pub fn polls(&self) -> Vec<&(u64, LongPoll)> {
        let newest = self.shown.as_ref().map_or(u64::MAX, |shown| shown.newest);
        let filter = self.filter.to_lowercase();
        let view = self.view(&filter);
        let is_shown =
            |poll: &LongPoll| poll.duration_ns >= view.threshold_ns && view.wants(&key(poll));
        let polls = self.polls.iter().rev();
        polls
            .filter(|(number, poll)| *number <= newest && is_shown(poll))
            .collect()
    }

    /// Which of [`Self::polls`] is chosen.
    pub fn selected_poll(&self) -> usize {
        let Some(selected) = self.selected_poll else {
            return 0;
        };
        let polls = self.polls();
        let at = polls.iter().position(|(number, _)| *number <= selected);
        at.unwrap_or(polls.len().saturating_sub(1))
    }

    /// The task types to show, in order.
    pub fn tasks(&self) -> Vec<TaskRow> {
        let mut tasks = match &self.shown {
            Some(shown) => shown.tasks.clone(),
            None => self.all_tasks(),
        };
        tasks.sort_by(|a, b| {
            let key = |row: &TaskRow| match self.sort {
                SortBy::Blocked => row.blocked_ns,
                SortBy::Count => row.long,
                SortBy::Longest => row.max_ns,
                SortBy::Polls => row.polls.unwrap_or_default(),
            };
            key(b).cmp(&key(a)).then_with(|| a.name.cmp(&b.name))
        });
        tasks
    }

    /// Which of [`Self::tasks`] is chosen.
    pub fn selected_task(&self) -> usize {
        self.selected_task.min(self.tasks().len().saturating_sub(1))
    }

    /// Task types with long polls that are shown, and those whose name is.
    fn all_tasks(&self) -> Vec<TaskRow> {
        let filter = self.filter.to_lowercase();
        let view = self.view(&filter);
        let mut rows: HashMap<String, TaskRow> = HashMap::new();
        for (name, counted) in self.seen.by_task(view) {
            let row = rows.entry(name.to_owned()).or_default();
            row.long = counted.count;
            row.blocked_ns = counted.total_ns;
            row.max_ns = counted.max_ns;
        }
        for task in &self.live.tasks {
            let name = &task.task.name;
            if !rows.contains_key(name) && !view.matches(name) {
                continue;
            }
            let row = rows.entry(name.clone()).or_default();
            row.polls = task.polls;
            row.max_ns = row.max_ns.max(task.max_ns);
        }
        let named = rows.into_iter().map(|(name, row)| TaskRow { name, ..row });
        named
            .filter(|row| row.polls.is_some_and(|polls| polls > 0) || row.long > 0)
            .collect()
    }

    /// How many long polls are shown, and how long they took.
    pub fn counted(&self) -> Counted {
        self.seen.all(self.view(&self.filter.to_lowercase()))
    }

    /// The long polls that are shown, by duration.
    pub fn histogram(&self) -> Histogram {
        self.seen.histogram(self.view(&self.filter.to_lowercase()))
    }

    /// Whether a task type's name has the filter in it.
    pub fn matches(&self, task: &str) -> bool {
        self.view(&self.filter.to_lowercase()).matches(task)
    }

    fn view<'a>(&self, filter: &'a str) -> View<'a> {
        View {
            filter,
            threshold_ns: self.threshold_ns(),
        }
    }
}
