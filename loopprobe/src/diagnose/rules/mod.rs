//! One table of causes. Its order is precedence: the first row that applies to a part of a poll
//! names the cause of that part.
//!
//! Words, colours, advice and `docs/causes.md` read the same rows. A new cause is a variant of
//! [`Cause`], a file here, and a line in [`RULES`].

mod backtrace;
mod channel;
mod child;
mod closing;
mod cpu;
mod database;
mod dns;
mod drop;
mod file_io;
mod fits;
mod frozen;
mod fsync;
mod instead;
pub(super) mod lock;
mod memory_map;
mod nested_block_on;
mod network;
mod never_yields;
mod page_fault;
mod pipe;
mod preempted;
mod reclaim;
mod sleep;
mod spin;
mod stopped;
mod thread_wait;
mod throttled;
mod unknown;

pub(super) use fits::may_wait_for_others;
pub(super) use instead::advice;
pub use instead::{INSTEAD, Instead};

use super::Moment;
use crate::model::Cause;

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// The cause.
    pub cause: Cause,
    /// What people call it.
    pub label: &'static str,
    /// Its colour in views: causes that call for the same kind of fix share one.
    pub colour: Colour,
    /// How it is recognised, for the documentation.
    pub recognised: &'static str,
    /// What to do, in one line.
    pub advice: &'static str,
    /// Whether a part of a poll was spent on it, if no row above says so of its own cause.
    pub applies: fn(&Moment<'_>) -> bool,
}

/// The colours of causes; the views choose the shades.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// Computing.
    Cpu,
    /// Sleeping.
    Sleep,
    /// Files, disks and memory.
    File,
    /// The network.
    Net,
    /// Other threads of the process.
    Lock,
    /// Other processes, other loops.
    Other,
    /// What is not the code's.
    Wait,
    /// Not known.
    Unknown,
}

/// Every cause, the first that applies wins. `docs/causes.md` shows this table; a test keeps them
/// equal.
pub const RULES: &[Rule] = &[
    stopped::RULE,
    frozen::RULE,
    reclaim::RULE,
    spin::RULE,
    throttled::RULE,
    preempted::RULE,
    dns::RULE,
    nested_block_on::RULE,
    backtrace::RULE,
    channel::RULE,
    database::RULE,
    child::RULE,
    lock::RULE,
    thread_wait::RULE,
    closing::RULE,
    sleep::RULE,
    fsync::RULE,
    pipe::RULE,
    network::RULE,
    file_io::RULE,
    drop::RULE,
    memory_map::RULE,
    page_fault::RULE,
    never_yields::RULE,
    cpu::RULE,
    unknown::RULE,
];

/// The row of the cause of a part of a poll.
pub(crate) fn of(moment: &Moment<'_>) -> &'static Rule {
    RULES
        .iter()
        .find(|rule| (rule.applies)(moment))
        .unwrap_or(&unknown::RULE)
}

impl Cause {
    /// The cause's row in the table.
    pub fn rule(self) -> &'static Rule {
        RULES
            .iter()
            .find(|rule| rule.cause == self)
            .unwrap_or(&unknown::RULE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_has_one_row() {
        let names: Vec<String> = RULES
            .iter()
            .map(|rule| serde_json::to_string(&rule.cause).expect("a cause"))
            .collect();
        // serde names all variants when it is given one that does not exist.
        let all = serde_json::from_str::<Cause>("\"no such cause\"").expect_err("not a cause");
        let all = all.to_string();
        let mut known: Vec<String> = all
            .split('`')
            .skip(3)
            .step_by(2)
            .map(|name| format!("\"{name}\""))
            .collect();
        let mut sorted = names.clone();
        sorted.sort();
        known.sort();
        assert_eq!(sorted, known, "{all}");
    }

    #[test]
    fn the_documentation_shows_the_other_advice_too() {
        let documentation = include_str!("../../../../docs/causes.md");
        let table: String = INSTEAD
            .iter()
            .map(|row| {
                let name = serde_json::to_string(&row.cause).expect("a cause");
                format!(
                    "| `{}` | {} | {} |\n",
                    name.trim_matches('"'),
                    row.when,
                    row.advice
                )
            })
            .collect();
        assert!(
            documentation.contains(&table),
            "docs/causes.md must contain:\n{table}"
        );
    }

    #[test]
    fn the_documentation_shows_this_table() {
        let documentation = include_str!("../../../../docs/causes.md");
        let table: String = RULES
            .iter()
            .map(|row| {
                let name = serde_json::to_string(&row.cause).expect("a cause");
                format!(
                    "| `{}` | {} | {} | {} |\n",
                    name.trim_matches('"'),
                    row.label,
                    row.recognised,
                    row.advice
                )
            })
            .collect();
        assert!(
            documentation.contains(&table),
            "docs/causes.md must contain:\n{table}"
        );
    }
}
