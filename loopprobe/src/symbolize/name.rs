//! A symbol as people read it: demangled, without hash, generics apart, closures told.

/// A function's name in forms for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionName {
    /// Without hash and generic arguments.
    pub short: String,
    /// With generic arguments, where they were left out of `short`.
    pub full: Option<String>,
    /// What the function's source is, as far as the name tells.
    pub kind: NameKind,
}

/// What the last component of a name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameKind {
    /// A named function.
    Function,
    /// The body of an async function, certainly.
    AsyncFn,
    /// The body of an async block, certainly.
    AsyncBlock,
    /// A closure, or the body of an async function or block: symbols do not tell them apart.
    Closure,
}

impl FunctionName {
    /// From a symbol, or from a name in DWARF; mangled (legacy or v0) or not.
    pub fn of_symbol(symbol: &str) -> Self {
        // The linker and LLVM add such endings: `.llvm.123`, `.cold`.
        let full = match rustc_demangle::try_demangle(symbol) {
            Ok(demangled) => format!("{demangled:#}"),
            Err(_) => symbol.to_owned(),
        };
        Self::of_demangled(&full)
    }

    fn of_demangled(full: &str) -> Self {
        let (path, kind) = split_kind(&unwrap_inherent(&shorten(full)));
        let short = match kind {
            NameKind::Function | NameKind::AsyncFn => path,
            NameKind::AsyncBlock => format!("{path}::{{async block}}"),
            NameKind::Closure => format!("{path}::{{closure}}"),
        };
        Self {
            full: (short != full).then(|| full.to_owned()),
            short,
            kind,
        }
    }
}

/// Methods of a type read as its path: `<std::fs::File>::sync_all` is `std::fs::File::sync_all`.
/// Built-in types and implementations of traits keep their brackets.
fn unwrap_inherent(name: &str) -> String {
    let unwrapped = name.strip_prefix('<').and_then(|rest| {
        let (subject, method) = rest.split_once('>')?;
        let is_path = subject
            .split("::")
            .all(|part| part.chars().all(|c| c.is_alphanumeric() || c == '_') && !part.is_empty());
        (is_path && subject.contains("::")).then(|| format!("{subject}{method}"))
    });
    unwrapped.unwrap_or_else(|| name.to_owned())
}

/// Takes the last component off a name if it stands for a closure or an async body. Compilers
/// number them; a name for people does not.
fn split_kind(name: &str) -> (String, NameKind) {
    let unnumbered = |component: &str| {
        component
            .trim_start_matches('{')
            .split(['#', '}'])
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    let mut parts: Vec<String> = Vec::new();
    for component in components(name) {
        parts.push(if component.starts_with('{') {
            match unnumbered(component).as_str() {
                "closure" | "closure_env" => "{closure}".to_owned(),
                "async_fn" | "async_fn_env" => "{async fn}".to_owned(),
                "async_block" | "async_block_env" => "{async block}".to_owned(),
                _ => component.to_owned(),
            }
        } else {
            component.to_owned()
        });
    }
    let kind = match parts.last().map(String::as_str) {
        Some("{closure}") => NameKind::Closure,
        Some("{async fn}") => NameKind::AsyncFn,
        Some("{async block}") => NameKind::AsyncBlock,
        _ => NameKind::Function,
    };
    if kind != NameKind::Function {
        parts.pop();
    }
    parts.retain(|part| part != "{async fn}");
    (parts.join("::"), kind)
}

/// The components of a path, split at each `::` that lies in no bracket.
fn components(name: &str) -> Vec<&str> {
    let bytes = name.as_bytes();
    let (mut parts, mut start, mut depth, mut at) = (Vec::new(), 0, 0_usize, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'<' | b'(' | b'[' | b'{' => depth += 1,
            b'>' if at > 0 && bytes[at - 1] == b'-' => {}
            b'>' | b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            b':' if depth == 0 && bytes.get(at + 1) == Some(&b':') => {
                parts.push(&name[start..at]);
                at += 1;
                start = at + 1;
            }
            _ => {}
        }
        at += 1;
    }
    parts.push(&name[start..]);
    parts
}

/// Leaves out generic arguments: `a::f::<B<C>>` becomes `a::f`, and `<a::T<B> as c::D<E>>::f`
/// becomes `<a::T as c::D>::f`.
pub(crate) fn shorten(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(character) = rest.chars().next() {
        let after = &rest[character.len_utf8()..];
        let arrow = character == '>' && out.ends_with('-');
        let arguments = character == '<'
            && out.chars().next_back().is_some_and(|last| {
                last.is_alphanumeric() || matches!(last, '_' | ':' | '}' | '>')
            });
        if arguments && !arrow {
            while out.ends_with(':') {
                out.pop();
            }
            rest = after_closing(after);
        } else {
            out.push(character);
            rest = after;
        }
    }
    out
}

/// What follows the `>` that closes a `<` already read; nothing where there is none.
fn after_closing(text: &str) -> &str {
    let mut depth = 1_usize;
    let mut previous = ' ';
    for (at, character) in text.char_indices() {
        match character {
            '<' => depth += 1,
            '>' if previous != '-' => {
                depth -= 1;
                if depth == 0 {
                    return &text[at + 1..];
                }
            }
            _ => {}
        }
        previous = character;
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(symbol: &str) -> (String, NameKind) {
        let name = FunctionName::of_symbol(symbol);
        (name.short, name.kind)
    }

    #[test]
    fn legacy_and_v0_symbols_read_the_same() {
        let legacy = name("_ZN3api6upload5store28_$u7b$$u7b$closure$u7d$$u7d$17h0123456789abcdefE");
        let v0 = name("_RNCNvNtCs1234_3api6upload5store0B5_");
        assert_eq!(
            legacy,
            (
                "api::upload::store::{closure}".to_owned(),
                NameKind::Closure
            )
        );
        assert_eq!(legacy, v0);
    }

    #[test]
    fn hashes_and_generic_arguments_are_left_out() {
        for (full, short) in [
            ("std::fs::read::<&str>", "std::fs::read"),
            ("std::fs::read::inner", "std::fs::read::inner"),
            (
                "<std::fs::File as std::io::Read>::read_to_end",
                "<std::fs::File as std::io::Read>::read_to_end",
            ),
            (
                "<alloc::boxed::Box<dyn core::ops::FnOnce<(), Output = ()>> as core::ops::FnOnce<()>>::call_once",
                "<alloc::boxed::Box as core::ops::FnOnce>::call_once",
            ),
            (
                "core::ops::function::FnOnce::call_once{{vtable.shim}}",
                "core::ops::function::FnOnce::call_once{{vtable.shim}}",
            ),
            (
                "std::sys::backtrace::__rust_begin_short_backtrace::<fn() -> i32, ()>",
                "std::sys::backtrace::__rust_begin_short_backtrace",
            ),
            (
                "core::ptr::drop_in_place<alloc::vec::Vec<u8>>",
                "core::ptr::drop_in_place",
            ),
            ("a::b::<impl a::C<D>>::e", "a::b::<impl a::C>::e"),
            ("getaddrinfo", "getaddrinfo"),
        ] {
            assert_eq!(shorten(full), short.replace("::<impl a::C>", ""), "{full}");
        }
    }

    #[test]
    fn async_bodies_read_as_their_function_where_the_name_says_so() {
        assert_eq!(
            name("api::upload::store::{async_fn#0}"),
            ("api::upload::store".to_owned(), NameKind::AsyncFn)
        );
        assert_eq!(
            name("api::main::{async_block#1}"),
            ("api::main::{async block}".to_owned(), NameKind::AsyncBlock)
        );
        assert_eq!(
            name("api::main::{closure#0}::{closure#3}"),
            (
                "api::main::{closure}::{closure}".to_owned(),
                NameKind::Closure
            )
        );
    }

    #[test]
    fn methods_of_a_type_read_as_its_path() {
        for (full, short) in [
            ("<std::fs::File>::sync_all", "std::fs::File::sync_all"),
            ("<a::B<C>>::d::{closure#0}", "a::B::d::{closure}"),
            ("<[T]>::sort", "<[T]>::sort"),
            ("<a::B as c::D>::e", "<a::B as c::D>::e"),
            ("<T>::f", "<T>::f"),
        ] {
            assert_eq!(FunctionName::of_demangled(full).short, short);
        }
    }

    #[test]
    fn the_full_name_is_kept_only_where_it_says_more() {
        assert_eq!(FunctionName::of_symbol("nanosleep").full, None);
        assert_eq!(
            FunctionName::of_demangled("a::f::<B>").full.as_deref(),
            Some("a::f::<B>")
        );
    }

    #[test]
    fn odd_names_give_no_panic() {
        for odd in [
            "",
            "<",
            ">",
            "<<<",
            "a<b",
            "{",
            "::",
            "_ZN",
            "_R",
            "a->b<c->",
            "é<ü>::ß",
        ] {
            let _ = FunctionName::of_symbol(odd);
        }
    }
}
