//! Names and definitions from debug information.

use super::{
    Context, TaskName,
    debug_info::DebugInfo,
    readable::unwrap_blocking,
    rust_path::without_arguments,
    slots,
    symbols::{demangle, future_and_scheduler, with_impl_named},
};
use crate::model::NameSource;

/// The types of `poll<F, S>` and its sisters, from the `DW_AT_name` of their subprograms (debug=1
/// and debug=2).
pub(super) fn names(context: &Context<'_>) -> Vec<Option<TaskName>> {
    let types_at = |address| {
        let names = context.debug.functions_at(address).iter();
        names
            .filter_map(|name| future_and_scheduler(name))
            .collect()
    };
    let decided = slots::decide(context, NameSource::Dwarf, types_at);
    decided
        .into_iter()
        .map(|name| name.map(|name| with_definition(context.debug, name)))
        .collect()
}

fn with_definition(debug: &DebugInfo, mut name: TaskName) -> TaskName {
    let Some(body) = debug.body(&body_path(unwrap_blocking(&name.type_name))) else {
        return name;
    };
    name.location.clone_from(&body.location);
    let linkage = body.linkage_name.as_deref().and_then(demangle);
    if let Some(named) = linkage.and_then(|linkage| with_impl_named(&name.type_name, &linkage)) {
        name.type_name = named;
    }
    name
}

/// The path of the function that is the body of a closure type: `app::f::{async_fn#0}` for
/// `app::f::{async_fn_env#0}<T>`.
fn body_path(type_name: &str) -> String {
    without_arguments(type_name).replace("_env#", "#")
}
