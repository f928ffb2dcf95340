//! Which types a vtable's functions name; certain only by a function that no other one shares.

use std::collections::HashMap;

use super::{Context, TaskName, scheduler};
use crate::{
    elf::{Image, VirtAddr},
    model::NameSource,
    runtime::tokio::vtable::{RawVtable, VtableLayout},
};

/// The functions of a vtable that are generic over the future's type, poll first.
///
/// All of them are `raw::f<F, S>` but `raw::schedule<S>`, slot 1 of the newest layout.
pub(crate) fn functions(image: &Image, vtable: &RawVtable) -> Vec<VirtAddr> {
    let (count, without) = match vtable.layout {
        VtableLayout::Seven { .. } => (7, Some(1)),
        VtableLayout::Eight => (8, None),
        VtableLayout::Functions => (5, None),
    };
    let slots = (0..count).filter(|slot| Some(*slot) != without);
    slots
        .filter_map(|slot| image.pointer_at(VirtAddr(vtable.address.0 + 8 * slot)))
        .collect()
}

/// Chooses each vtable's types (`F`, `S`) from what is known of its functions.
///
/// Linkers and LLVM fold identical functions, and one name of several survives. So a name is
/// certain only if it comes from a function that no other vtable shares, and no such function says
/// otherwise.
pub(super) fn decide(
    context: &Context<'_>,
    source: NameSource,
    types_at: impl Fn(VirtAddr) -> Vec<(String, String)>,
) -> Vec<Option<TaskName>> {
    let functions: Vec<_> = context
        .vtables
        .iter()
        .map(|v| functions(context.image, v))
        .collect();
    let mut users: HashMap<VirtAddr, u32> = HashMap::new();
    for function in functions.iter().flatten() {
        *users.entry(*function).or_default() += 1;
    }
    let choose = |functions: &Vec<VirtAddr>| {
        let own = functions
            .iter()
            .filter(|f| users[f] == 1)
            .map(|f| types_at(*f))
            .filter(|types| types.len() == 1);
        let mut own = own.flatten();
        let first = own.next();
        let certain = first
            .as_ref()
            .is_some_and(|first| own.all(|other| other == *first));
        let (future, scheduler) =
            first.or_else(|| types_at(*functions.first()?).into_iter().next())?;
        Some(TaskName {
            scheduler: scheduler::from_type(&scheduler),
            type_name: future,
            others: Vec::new(),
            source,
            certain,
            location: None,
        })
    };
    functions.iter().map(choose).collect()
}
