//! Sorts a census by its largest types, by name, by id or by state.

use std::cmp::Reverse;

use super::by_type;
use crate::{cli::SortBy, inventory::Census};

/// Puts the tasks in order; those of one type by id.
pub(super) fn sort(census: &mut Census, by: SortBy) {
    let counts: Vec<u64> = by_type(census)
        .iter()
        .map(|count| count.iter().sum())
        .collect();
    let Census { tasks, types, .. } = census;
    match by {
        SortBy::Count => tasks.sort_by_cached_key(|task| {
            (
                Reverse(counts[task.kind]),
                types[task.kind].name.clone(),
                task.kind,
                task.id,
            )
        }),
        SortBy::Name => {
            tasks.sort_by_cached_key(|task| (types[task.kind].name.clone(), task.kind, task.id));
        }
        SortBy::Id => tasks.sort_by_key(|task| task.id),
        SortBy::State => tasks.sort_by_key(|task| (task.state, task.id)),
    }
}
