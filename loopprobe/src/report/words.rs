//! The model's enums in words.

use super::Count;
use crate::model::{Cause, Lost, SourceLocation, StackKind, TaskType};

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

/// A task type's name; one that is only likely says so.
pub fn task_name(task: &TaskType) -> String {
    let name = super::clean(&task.name);
    if task.certain {
        name.into_owned()
    } else {
        format!("{name} (likely)")
    }
}

/// A place in the source, without the folders that say only where a dependency was unpacked.
pub fn place(location: &SourceLocation) -> String {
    super::clean(&location.to_string()).into_owned()
}

/// What was lost: every counter that is not zero, by its name in the JSON.
pub fn lost(lost: &Lost) -> Vec<String> {
    let Ok(serde_json::Value::Object(counters)) = serde_json::to_value(lost) else {
        return Vec::new();
    };
    counters
        .into_iter()
        .filter_map(|(name, count)| Some((name, count.as_u64().filter(|&count| count > 0)?)))
        .map(|(name, count)| format!("{} {}", Count(count), name.replace('_', " ")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_that_is_not_zero_is_named() {
        let counters = Lost {
            events: 1_200,
            too_deep: 1,
            ..Lost::default()
        };
        let mut names = lost(&counters);
        names.sort();
        assert_eq!(names, ["1 too deep", "1,200 events"]);
        assert!(lost(&Lost::default()).is_empty());
    }
}
