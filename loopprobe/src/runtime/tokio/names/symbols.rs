//! The future's and the scheduler's type, read from symbols in v0 mangling.

use rustc_demangle::try_demangle;

use super::{
    Context, TaskName,
    rust_path::{arguments, split_top, without_arguments},
    slots,
};
use crate::{elf::SymbolTable, model::NameSource, runtime::Mangling};

/// Longer names are cut off by the demangler or of no use.
const MAX_DEMANGLED: usize = 1 << 16;

/// A symbol's name without crate hashes, if it is Rust's.
pub(crate) fn demangle(symbol: &str) -> Option<String> {
    use std::fmt::Write as _;
    let mut name = Bounded(String::new());
    write!(name, "{:#}", try_demangle(symbol).ok()?).ok()?;
    Some(name.0)
}

/// Whether a demangled name is `tokio::runtime::task::raw::poll`.
pub(crate) fn is_poll(name: &str) -> bool {
    without_arguments(name) == "tokio::runtime::task::raw::poll"
}

fn is_raw(name: &str) -> bool {
    name.starts_with("tokio::runtime::task::raw::")
}

/// How the Rust symbols are mangled.
pub(crate) fn mangling(symbols: &SymbolTable) -> Mangling {
    let any = |prefix: &str| symbols.iter().any(|symbol| symbol.name.starts_with(prefix));
    match (any("_ZN"), any("_R")) {
        (false, false) => Mangling::None,
        (true, false) => Mangling::Legacy,
        (false, true) => Mangling::V0,
        (true, true) => Mangling::Mixed,
    }
}

/// The types of `raw::poll<F, S>` and its sisters, from their symbols in v0 mangling.
pub(super) fn names(context: &Context<'_>) -> Vec<Option<TaskName>> {
    slots::decide(context, NameSource::V0, |address| {
        let names = context
            .symbols
            .at(address)
            .filter_map(|symbol| demangle(symbol.name));
        let mut types: Vec<_> = names
            .filter(|n| is_raw(n))
            .filter_map(|n| future_and_scheduler(&n))
            .collect();
        types.sort();
        types.dedup();
        types
    })
}

/// `F` and `S` of `poll<F, S>`.
pub(super) fn future_and_scheduler(name: &str) -> Option<(String, String)> {
    match arguments(name)[..] {
        [future, scheduler, ..] => Some((future.to_owned(), scheduler.to_owned())),
        _ => None,
    }
}

/// `name` with its `{impl#N}` replaced by what `other`, a name of the same function from symbols,
/// says of the impl's type. `None` if there is no such segment or the two names do not match.
pub(super) fn with_impl_named(name: &str, other: &str) -> Option<String> {
    let (before, after) = name.split_once("{impl#")?;
    let (_, after) = after.split_once('}')?;
    let method = without_arguments(split_top(after.strip_prefix("::")?, "::").first()?);
    let others = split_top(other, "::");
    let at = others
        .iter()
        .rposition(|segment| without_arguments(segment) == method)?;
    let own_type = others[..at].join("::");
    let bare = own_type.trim_start_matches('<');
    (at > 0 && bare.starts_with(before)).then(|| format!("{own_type}{after}"))
}

/// A buffer that refuses to grow without end.
struct Bounded(String);

impl std::fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        if self.0.len() + text.len() > MAX_DEMANGLED {
            return Err(std::fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impl_blocks_get_their_types_from_symbols() {
        let named = |name, other| with_impl_named(name, other);
        assert_eq!(
            named(
                "app::jobs::{impl#0}::run::{async_fn_env#0}",
                "app::jobs::Svc::run::{{closure}}"
            )
            .as_deref(),
            Some("app::jobs::Svc::run::{async_fn_env#0}")
        );
        assert_eq!(
            named(
                "app::jobs::{impl#1}::go::{async_fn_env#0}",
                "<app::jobs::Svc as app::Job>::go::{{closure}}"
            )
            .as_deref(),
            Some("<app::jobs::Svc as app::Job>::go::{async_fn_env#0}")
        );
        assert_eq!(
            named(
                "app::jobs::{impl#0}::run::{async_fn_env#0}",
                "app::other::Svc::run::{{closure}}"
            ),
            None
        );
        assert_eq!(
            named("app::run::{async_fn_env#0}", "app::run::{{closure}}"),
            None
        );
    }
}
