//! Takes apart the names of types and functions as demangled symbols and DWARF spell them.

/// The parts of `text` between `separator`s that lie outside of all brackets.
pub(super) fn split_top<'a>(text: &'a str, separator: &str) -> Vec<&'a str> {
    let bytes = text.as_bytes();
    let (mut parts, mut depth, mut start, mut at) = (Vec::new(), 0u32, 0, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'<' | b'(' | b'[' | b'{' => depth += 1,
            // The arrow of a function type closes nothing.
            b'>' if at > 0 && bytes[at - 1] == b'-' => {}
            b'>' | b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ if depth == 0 && bytes[at..].starts_with(separator.as_bytes()) => {
                parts.push(&text[start..at]);
                at += separator.len();
                start = at;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    parts.push(&text[start..]);
    parts
}

/// The generic arguments at the end of `name`: `T, U` in `path::name<T, U>` or `path::name::<T,
/// U>`.
pub(super) fn arguments(name: &str) -> Vec<&str> {
    let segments = split_top(name, "::");
    let Some(last) = segments.last() else {
        return Vec::new();
    };
    match last.find('<').filter(|_| last.ends_with('>')) {
        Some(open) => split_top(&last[open + 1..last.len() - 1], ",")
            .into_iter()
            .map(str::trim)
            .collect(),
        None => Vec::new(),
    }
}

/// `name` without the generic arguments at its end.
pub(crate) fn without_arguments(name: &str) -> &str {
    let segments = split_top(name, "::");
    let last = segments.last().copied().unwrap_or_default();
    let head = &name[..name.len() - last.len()];
    match last.find('<').filter(|_| last.ends_with('>')) {
        Some(0) => head.strip_suffix("::").unwrap_or(name),
        Some(open) => &name[..head.len() + open],
        None => name,
    }
}

/// The last segment of a path, without generic arguments: `Svc` of `my_app::handlers::Svc<T>`.
pub(super) fn last_segment(path: &str) -> &str {
    split_top(without_arguments(path), "::")
        .last()
        .copied()
        .unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_inside_brackets_do_not_count() {
        assert_eq!(
            split_top("a<b::c>::d::{e::f}", "::"),
            ["a<b::c>", "d", "{e::f}"]
        );
        assert_eq!(
            split_top("fn(a, b) -> c<d, e>, f", ","),
            ["fn(a, b) -> c<d, e>", " f"]
        );
        assert_eq!(split_top("", "::"), [""]);
        assert_eq!(split_top(">>a::b", "::"), [">>a", "b"]);
    }

    #[test]
    fn arguments_are_those_at_the_end() {
        assert_eq!(
            arguments("a<x>::poll::<f::{closure#0}, s<t>>"),
            ["f::{closure#0}", "s<t>"]
        );
        assert_eq!(arguments("poll<f<x, y>, s>"), ["f<x, y>", "s"]);
        assert_eq!(arguments("<a as b>::poll"), [""; 0]);
        assert_eq!(without_arguments("a::b::<c>"), "a::b");
        assert_eq!(without_arguments("a::b<c>"), "a::b");
        assert_eq!(without_arguments("<a as b>"), "<a as b>");
        assert_eq!(last_segment("my::Svc<a::b>"), "Svc");
    }

    #[test]
    fn other_alphabets_are_kept_whole() {
        assert_eq!(
            split_top("größe::<ñ>::日本", "::"),
            ["größe", "<ñ>", "日本"]
        );
    }
}
