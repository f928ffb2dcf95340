//! How many of the probed sites were seen to fire.

use std::collections::HashSet;

use loopprobe_common::config::site_of_key;

use crate::{attach::Plan, model::Coverage};

/// What is seen of futures given to `block_on`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Roots {
    /// Whether they are covered.
    pub covered: bool,
    /// For how long they were watched, where they are not, in nanoseconds.
    pub watched_ns: u64,
}

/// A site has fired if a poll of one of its task types was counted. `fired` says of each type
/// whether that is so.
pub(super) fn coverage(plan: &Plan, fired: &[bool], roots: Roots) -> Coverage {
    let has_fired = |index: u32| fired.get(index as usize).copied().unwrap_or(false);
    let own = plan.sites.iter().enumerate();
    let own = own.filter(|(_, site)| has_fired(site.task.index));
    let own = own.map(|(cookie, _)| cookie as u64);
    let shared = plan
        .shared
        .iter()
        .filter(|(_, layout)| has_fired(layout.index))
        .map(|(key, _)| site_of_key(*key));
    let sites: HashSet<u64> = own.chain(shared).collect();
    Coverage {
        sites: plan.sites.len() as u64,
        sites_fired: sites.len() as u64,
        root_future: roots.covered,
        roots_watched_ns: roots.watched_ns,
    }
}

#[cfg(test)]
mod tests {
    use loopprobe_common::config::{Site, TaskLayout, vtable_key};

    use super::*;

    fn layout(index: u32) -> TaskLayout {
        TaskLayout {
            index,
            ..TaskLayout::default()
        }
    }

    #[test]
    fn a_site_fires_by_any_of_its_types_and_once() {
        let site = |index| Site {
            task: layout(index),
            ..Site::default()
        };
        let plan = Plan {
            sites: vec![site(0), site(1), site(2)],
            shared: vec![
                (vtable_key(1, 0x40), layout(3)),
                (vtable_key(2, 0x80), layout(4)),
            ],
            ..Plan::default()
        };
        let fired = |types: [bool; 5]| coverage(&plan, &types, Roots::default()).sites_fired;
        assert_eq!(fired([false; 5]), 0);
        assert_eq!(fired([true, false, false, false, false]), 1);
        assert_eq!(fired([false, true, false, true, true]), 2);
        assert_eq!(fired([true; 5]), 3);
        assert_eq!(coverage(&plan, &[], Roots::default()).sites, 3);
    }
}
