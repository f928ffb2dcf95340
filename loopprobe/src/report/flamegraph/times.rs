//! Times in the units of the report: inferno writes every one as a number of the same unit.

use super::units;

/// The unit that inferno is given.
pub(super) const UNIT: &str = "ns";

/// Writes `all (1,234,567 ns, 100%)` in titles as `all (1.23ms, 100%)`.
pub(super) fn in_units(svg: &str) -> String {
    const BEGIN: &str = "<title>";
    const END: &str = "</title>";
    let mut out = String::with_capacity(svg.len());
    let mut rest = svg;
    while let Some((before, title)) = rest.split_once(BEGIN) {
        out += before;
        out += BEGIN;
        let (title, after) = title.split_once(END).unwrap_or((title, ""));
        out += &in_unit(title).unwrap_or_else(|| title.to_owned());
        if !after.is_empty() {
            out += END;
        }
        rest = after;
    }
    out + rest
}

fn in_unit(title: &str) -> Option<String> {
    let (name, numbers) = title.rsplit_once(" (")?;
    let (time, share) = numbers.split_once(&format!(" {UNIT}"))?;
    let ns = time.replace(',', "").parse().ok()?;
    Some(format!("{name} ({}{share}", units::ns(ns)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_titles_with_a_time_change() {
        let svg = "<title>Search</title><g><title>a (b) (1,234,567 ns, 12%)</title>1 ns</g></svg>";
        let expected = "<title>Search</title><g><title>a (b) (1.23ms, 12%)</title>1 ns</g></svg>";
        assert_eq!(in_units(svg), expected);
    }
}
