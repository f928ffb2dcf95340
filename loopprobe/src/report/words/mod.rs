//! The model's enums in words.

mod finding;

pub use finding::finding;

use super::{Count, Measured};
use crate::model::{
    Cause, Lost, Mode, NameSource, ProbeCost, SourceLocation, StackKind, TaskType, WakeToPoll,
};

/// A cause as a person would say it.
pub fn cause(cause: Cause) -> &'static str {
    cause.rule().label
}

/// What a thread was doing.
pub fn stack_kind(kind: StackKind) -> &'static str {
    match kind {
        StackKind::OnCpu => "on CPU",
        StackKind::Blocked => "blocked",
        StackKind::Runnable => "waiting for a CPU",
    }
}

/// `1 poll`, `2,184 polls`: a count with what it counts, an English noun that takes an `s`.
pub fn count(count: u64, noun: &str) -> String {
    let ending = match noun {
        _ if count == 1 => "",
        _ if noun.ends_with("ch") || noun.ends_with("ss") => "es",
        _ => "s",
    };
    format!("{} {noun}{ending}", Count(count))
}

/// How polls are seen where not every one is probed.
pub fn watched(mode: Option<Mode>) -> Option<&'static str> {
    match mode? {
        Mode::Watch => Some("watched without probes"),
        Mode::Auto => Some("watched, and probed at times"),
        Mode::Exact | Mode::Light => None,
    }
}

/// How long tasks waited from their wake to their poll.
pub fn wake_to_poll(delays: &WakeToPoll) -> String {
    let unseen = match delays.unseen {
        0 => String::new(),
        unseen => format!(" ({} not seen woken)", count(unseen, "poll")),
    };
    if delays.count == 0 {
        return format!("wake to poll unknown{unseen}");
    }
    format!(
        "wake to poll p50 {} p99 {} max {}{unseen}",
        Measured(delays.p50_ns),
        Measured(delays.p99_ns),
        Measured(delays.max_ns)
    )
}

/// A task by its type's name; what stands for a missing one says that it is a task.
pub fn task(name: &str) -> String {
    let name = super::clean(name);
    if name.starts_with("task type") {
        name.into_owned()
    } else {
        format!("task {name}")
    }
}

/// A task type's name; one that is only likely says so. An address is no guess.
pub fn task_name(task: &TaskType) -> String {
    let name = super::clean(&task.name);
    if task.certain || task.name_source == NameSource::None {
        name.into_owned()
    } else {
        format!("{name} (likely)")
    }
}

/// A place in the source, without the folders that say only where a dependency was unpacked.
pub fn place(location: &SourceLocation) -> String {
    super::clean(&location.to_string()).into_owned()
}

/// A place to stand beside a name; `None` if there is none, or if the name says it already.
pub fn place_beside(name: &str, location: Option<&SourceLocation>) -> Option<String> {
    location
        .map(place)
        .filter(|place| !name.contains(place.as_str()))
}

/// What was lost: every counter that is not zero, by its name in the JSON.
pub fn lost(lost: &Lost) -> Vec<String> {
    lost.by_kind()
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(name, many)| {
            let name = name.replace('_', " ");
            let noun = match name.strip_suffix("es") {
                Some(noun) if noun.ends_with("ch") => Some(noun),
                _ => name.strip_suffix('s'),
            };
            match noun {
                Some(noun) => count(many, noun),
                None => format!("{} {name}", Count(many)),
            }
        })
        .collect()
}

/// What observation cost by part, dearest first; nothing where it was recorded as a whole.
pub fn cost_parts(cost: &ProbeCost) -> Vec<String> {
    let mut parts = cost.by_part();
    parts.sort_by_key(|(_, ns)| std::cmp::Reverse(*ns));
    parts
        .into_iter()
        .filter(|(_, ns)| *ns > 0)
        .map(|(name, ns)| format!("{name} {}", Measured(ns)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_called_one_once() {
        assert_eq!(task("api::upload"), "task api::upload");
        assert_eq!(
            task("task type @0x10 (8 bytes)"),
            "task type @0x10 (8 bytes)"
        );
    }

    #[test]
    fn every_counter_that_is_not_zero_is_named() {
        let counters = Lost {
            events: 1_200,
            too_deep: 1,
            unwalked_threads: 1,
            switches: 1,
            ..Lost::default()
        };
        let mut names = lost(&counters);
        names.sort();
        assert_eq!(
            names,
            [
                "1 switch",
                "1 too deep",
                "1 unwalked thread",
                "1,200 events"
            ]
        );
        assert_eq!(
            lost(&Lost {
                switches: 2,
                ..Lost::default()
            }),
            ["2 switches"]
        );
        assert!(lost(&Lost::default()).is_empty());
    }
}
