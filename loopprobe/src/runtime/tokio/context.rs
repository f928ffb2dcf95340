//! Where Tokio's thread-local `CONTEXT` keeps the current task's number and its budget, told from
//! code alone.
//!
//! `raw::poll` stores the task's number before it polls the future, and the one before it
//! afterwards (`TaskIdGuard`, `tokio/src/runtime/task/core.rs`, 1.22 and later). The budget is an
//! `Option<u8>`; `Budget::initial()`, `Some(128)`, is stored around each turn
//! (`tokio/src/runtime/coop.rs`, later `tokio/src/task/coop/mod.rs`).

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    code::{Store, Stored, ThreadPlace, stores_near_constant, stores_of_argument},
    elf::{Architecture, Image, VirtAddr},
    runtime::{
        ImageFacts,
        words::{NotWatchable, Votes, WatchWords, distance},
    },
};

/// `Some(128)` in memory: the tag, then the value.
const INITIAL_BUDGET: u16 = 0x8001;
/// Functions that are looked at; any few say the same.
const MAX_POLLS: usize = 96;
/// So many functions must agree for each that disagrees: code is looked through from top to bottom,
/// so that a store is sometimes taken for one at another place.
const MAJORITY: usize = 4;
/// The budget lies 20 to 48 bytes behind the task's number (1.23 to 1.54).
const MAX_DISTANCE: i64 = 64;

/// Finds both words.
///
/// # Errors
/// Why they are not found.
pub(super) fn find(image: &Image, facts: &ImageFacts) -> Result<WatchWords, NotWatchable> {
    if image.architecture() == Architecture::Aarch64 {
        return Err(NotWatchable::Processor);
    }
    let (task_id, has_tag, task_id_votes) = find_task_id(image, facts)?;
    let (budget, budget_votes) = find_budget(image, task_id)?;
    Ok(WatchWords {
        task_id,
        task_id_votes,
        has_tag,
        budget,
        budget_votes,
    })
}

fn find_task_id(
    image: &Image,
    facts: &ImageFacts,
) -> Result<(ThreadPlace, bool, Votes), NotWatchable> {
    let types = facts.sites.iter().flat_map(|site| &site.types);
    let polls: BTreeSet<(VirtAddr, u32)> = types
        .filter(|served| served.id_offset != 0)
        .map(|served| (served.function, served.id_offset))
        .collect();
    if polls.is_empty() {
        return Err(NotWatchable::TooOld);
    }
    let step = polls.len().div_ceil(MAX_POLLS);
    let looked_at = polls.iter().step_by(step);
    let looked_at: Vec<_> = looked_at
        .map(|(poll, offset)| stores_of_argument(image, *poll, *offset))
        .collect();
    let is_id = |store: &&Store| store.what == Stored::Wanted && store.size == 8;
    let places = looked_at.iter().filter_map(|stores| {
        let places = stores.iter().filter(is_id).map(|store| store.place);
        most(places).map(|(place, _)| place)
    });
    let (place, votes) = elect(places, looked_at.len()).map_err(|error| match error {
        Unelected::Nobody => NotWatchable::NoTaskId,
        Unelected::Split => NotWatchable::Ambiguous,
    })?;
    // In 1.38 and before a task's number may be 0, so that `Option<Id>` has a tag; no more in 1.44.
    let is_tag = |store: &&Store| {
        store.what == Stored::Number(1)
            && store.size == 8
            && distance(place, store.place) == Some(-8)
    };
    let tagged = looked_at
        .iter()
        .filter(|stores| stores.iter().any(|store| is_tag(&store)));
    Ok((place, tagged.count() * 2 > votes.agree, votes))
}

fn find_budget(image: &Image, task_id: ThreadPlace) -> Result<(ThreadPlace, Votes), NotWatchable> {
    let at_hand = |store: &Store| matches!(store.what, Stored::Number(number) if number as u16 == INITIAL_BUDGET);
    // Where the store is in a function of its own, what it stores comes through a pointer.
    let passed = |store: &Store| store.what == Stored::Unknown;
    let first = budget_among(
        &stores_near_constant(image, INITIAL_BUDGET, 0),
        task_id,
        at_hand,
    );
    match first {
        Err(NotWatchable::NoBudget) => {
            let stores = stores_near_constant(image, INITIAL_BUDGET, 1);
            budget_among(&stores, task_id, passed)
        }
        other => other,
    }
}

fn budget_among(
    stores: &[Store],
    task_id: ThreadPlace,
    is_budget: impl Fn(&Store) -> bool,
) -> Result<(ThreadPlace, Votes), NotWatchable> {
    let is_near = |place: &ThreadPlace| {
        distance(task_id, *place).is_some_and(|far| (8..=MAX_DISTANCE).contains(&far))
    };
    let stores = stores
        .iter()
        .filter(|store| store.size == 2 && is_budget(store));
    let places: Vec<_> = stores.map(|store| store.place).filter(is_near).collect();
    let looked_at = places.len();
    elect(places.into_iter(), looked_at).map_err(|error| match error {
        Unelected::Nobody => NotWatchable::NoBudget,
        Unelected::Split => NotWatchable::Ambiguous,
    })
}

/// Why there is no clear winner.
enum Unelected {
    Nobody,
    Split,
}

fn elect(
    places: impl Iterator<Item = ThreadPlace>,
    looked_at: usize,
) -> Result<(ThreadPlace, Votes), Unelected> {
    let places: Vec<_> = places.collect();
    let (place, agree) = most(places.iter().copied()).ok_or(Unelected::Nobody)?;
    let differ = places.len() - agree;
    if differ * MAJORITY > agree {
        return Err(Unelected::Split);
    }
    let votes = Votes {
        agree,
        differ,
        looked_at,
    };
    Ok((place, votes))
}

/// The commonest place, and how often it comes. Modules' numbers lie in several words, which are
/// one place.
fn most(places: impl Iterator<Item = ThreadPlace>) -> Option<(ThreadPlace, usize)> {
    let mut counts: BTreeMap<(bool, i64), (ThreadPlace, usize)> = BTreeMap::new();
    for place in places {
        let key = match place {
            ThreadPlace::Fixed(offset) => (false, offset),
            ThreadPlace::InModule { offset, .. } => (true, offset),
        };
        counts.entry(key).or_insert((place, 0)).1 += 1;
    }
    counts.into_values().max_by_key(|(_, count)| *count)
}
