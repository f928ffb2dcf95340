//! Blocked time by stack: what every graph of a session is drawn from.

use std::collections::{BTreeMap, HashMap};

use crate::model::{Event, LongPoll, Session, SourceLocation, Stack, StackKind, Summary};

use super::{
    Thresholds,
    each_once::EachOnce,
    label::{BLOCKED, Owner, computing_name, frame_name, leaf_name, owner, plain, waiting_name},
    share::share,
};

/// The frame of time without a stack: a stretch too short to be kept, or a stack that was lost.
pub(super) const NO_STACK: &str = "[no stack]";
/// The frame above a stack that does not reach the poll's entry.
const INCOMPLETE: &str = "[incomplete stack]";
/// The frame that stands for stacks beyond [`MAX_STACKS`].
const OTHER: &str = "[other stacks]";
/// So many different stacks are kept apart; a session may last for days.
const MAX_STACKS: usize = 50_000;

/// No graph is deeper; a recording's stacks are as long as its writer made them.
const MAX_DEPTH: usize = 1_000;

/// Marks the root of polls that are allowed to block.
const IN_PLACE: &str = " (block_in_place)";

/// The task type's name of a root.
pub(super) fn task_of(root: &str) -> &str {
    root.strip_suffix(IN_PLACE).unwrap_or(root)
}

/// One box of a graph.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    /// Fit for a folded line: no `;`, no control characters.
    pub name: String,
    /// Whose code it is.
    pub owner: Owner,
    /// Where it stands in source code, or where its task type is defined.
    pub location: Option<SourceLocation>,
    /// The executable or library.
    pub module: Option<String>,
}

/// How long a stack stood, over all polls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    /// Wall time, in nanoseconds.
    pub ns: u64,
    /// How many pieces of polls it is made of.
    pub count: u64,
}

/// Wall time of long polls by stack, task type first, cause last.
///
/// [`Self::total_ns`] is the sum of the polls' durations, to the nanosecond: off-CPU stacks keep
/// their own durations, the on-CPU part is shared among the poll's on-CPU stacks, and what has no
/// stack is under `[no stack]`.
#[derive(Debug, Default)]
pub struct Fold {
    /// The session's head, once seen.
    pub session: Option<Session>,
    /// From which duration on its polls were long.
    pub thresholds: Thresholds,
    /// The session's end, once seen.
    pub summary: Option<Summary>,
    /// How many polls were folded.
    pub polls: u64,
    nodes: Vec<Node>,
    ids: HashMap<Node, u32>,
    stacks: BTreeMap<Vec<u32>, Weight>,
    once: EachOnce,
}

impl Fold {
    /// Takes the next event; at the `Summary`, polls that never ended are counted with what is
    /// known of them.
    pub fn event(&mut self, event: &Event) {
        self.thresholds.event(event);
        match event {
            Event::Session(session) => self.session = Some(session.clone()),
            Event::LongPoll(poll) => {
                if let Some(poll) = self.once.settle(poll) {
                    self.poll(poll);
                }
            }
            Event::Notice(_) | Event::Interval(_) | Event::Finding(_) => {}
            Event::Summary(summary) => {
                for poll in self.once.rest() {
                    self.poll(&poll);
                }
                self.summary = Some(summary.clone());
            }
        }
    }

    /// Forgets all stacks. Polls that have not ended are waited for as before.
    pub fn restart(&mut self) {
        self.polls = 0;
        self.nodes.clear();
        self.ids.clear();
        self.stacks.clear();
    }

    /// The stacks, each from the task type to the cause.
    pub fn stacks(&self) -> impl Iterator<Item = (Vec<&Node>, Weight)> {
        self.stacks.iter().map(|(path, &weight)| {
            let nodes = path.iter().map(|&id| &self.nodes[id as usize]).collect();
            (nodes, weight)
        })
    }

    /// The boxes that stacks are made of, each once.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The sum of the folded polls' durations.
    pub fn total_ns(&self) -> u64 {
        self.stacks
            .values()
            .fold(0, |sum, weight| sum.saturating_add(weight.ns))
    }

    fn poll(&mut self, poll: &LongPoll) {
        self.polls += 1;
        let root = self.root(poll);
        let budget = Budget::of(poll);
        let plain_leaf = |kind| match kind {
            StackKind::OnCpu => vec![NO_STACK.to_owned(), computing_name()],
            StackKind::Runnable => vec![waiting_name(poll)],
            StackKind::Blocked => vec![NO_STACK.to_owned(), BLOCKED.to_owned()],
        };
        for (kind, ns) in [
            (StackKind::OnCpu, budget.on_cpu_ns),
            (StackKind::Runnable, budget.runnable_ns),
            (StackKind::Blocked, budget.blocked_ns),
        ] {
            let rest = self.stacks_of(poll, root, kind, ns);
            self.add_plain(root, &plain_leaf(kind), rest);
        }
        self.add_plain(root, &[NO_STACK.to_owned()], budget.unknown_ns);
    }

    /// Adds the poll's stacks of one kind within `budget`; gives back what no stack accounts for.
    fn stacks_of(&mut self, poll: &LongPoll, root: u32, kind: StackKind, budget: u64) -> u64 {
        let stacks: Vec<&Stack> = poll.stacks.iter().filter(|s| s.kind == kind).collect();
        let own: Vec<u64> = stacks.iter().map(|stack| stack.ns).collect();
        let sum = own.iter().fold(0_u64, |sum, &ns| sum.saturating_add(ns));
        let exact = kind != StackKind::OnCpu && sum <= budget;
        let shares = if exact { own } else { share(budget, &own) };
        let given: u64 = shares.iter().sum();
        for (stack, ns) in stacks.into_iter().zip(shares) {
            let path = self.path(poll, root, stack);
            self.add(path, ns);
        }
        budget - given
    }

    fn path(&mut self, poll: &LongPoll, root: u32, stack: &Stack) -> Vec<u32> {
        let mut path = vec![root];
        if stack.frames.is_empty() {
            path.push(self.kernel(NO_STACK));
        } else if !stack.outcome.is_whole() {
            path.push(self.kernel(INCOMPLETE));
        }
        for frame in stack.frames.iter().rev().take(MAX_DEPTH) {
            let node = Node {
                name: frame_name(frame),
                owner: owner(frame, self.session.as_ref()),
                location: frame.definition.clone().or_else(|| frame.location.clone()),
                module: frame.module.clone(),
            };
            path.push(self.id(node));
        }
        path.push(self.kernel(&leaf_name(poll, stack)));
        path
    }

    fn root(&mut self, poll: &LongPoll) -> u32 {
        let mark = if poll.block_in_place { IN_PLACE } else { "" };
        self.id(Node {
            name: format!("{}{mark}", plain(&poll.task.name)),
            owner: Owner::Task,
            location: poll.task.location.clone(),
            module: None,
        })
    }

    fn add_plain(&mut self, root: u32, names: &[String], ns: u64) {
        let mut path = vec![root];
        path.extend(names.iter().map(|name| self.kernel(name)));
        self.add(path, ns);
    }

    fn add(&mut self, mut path: Vec<u32>, ns: u64) {
        if ns == 0 {
            return;
        }
        if self.stacks.len() >= MAX_STACKS && !self.stacks.contains_key(&path) {
            path.truncate(1);
            path.push(self.kernel(OTHER));
        }
        let weight = self.stacks.entry(path).or_default();
        weight.ns = weight.ns.saturating_add(ns);
        weight.count += 1;
    }

    fn kernel(&mut self, name: &str) -> u32 {
        self.id(Node {
            name: name.to_owned(),
            owner: Owner::Kernel,
            location: None,
            module: None,
        })
    }

    fn id(&mut self, node: Node) -> u32 {
        if let Some(&id) = self.ids.get(&node) {
            return id;
        }
        let id = self.nodes.len() as u32;
        self.nodes.push(node.clone());
        self.ids.insert(node, id);
        id
    }
}

/// A poll's duration by what the thread did; adds up to the duration even where the source's parts
/// do not quite.
struct Budget {
    on_cpu_ns: u64,
    runnable_ns: u64,
    blocked_ns: u64,
    unknown_ns: u64,
}

impl Budget {
    fn of(poll: &LongPoll) -> Self {
        let of_stacks = |kind| -> u64 {
            let own = poll.stacks.iter().filter(|stack| stack.kind == kind);
            own.fold(0, |sum, stack| sum.saturating_add(stack.ns))
        };
        let (blocked, runnable) = match poll.split {
            Some(split) => (split.blocked_ns, split.runnable_ns),
            None => (
                of_stacks(StackKind::Blocked),
                of_stacks(StackKind::Runnable),
            ),
        };
        let blocked_ns = blocked.min(poll.duration_ns);
        let runnable_ns = runnable.min(poll.duration_ns - blocked_ns);
        let rest = poll.duration_ns - blocked_ns - runnable_ns;
        let computed = poll.split.is_some() || of_stacks(StackKind::OnCpu) > 0;
        Self {
            on_cpu_ns: if computed { rest } else { 0 },
            runnable_ns,
            blocked_ns,
            unknown_ns: if computed { 0 } else { rest },
        }
    }
}
