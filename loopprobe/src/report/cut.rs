//! Text that is longer than its place.

use unicode_truncate::UnicodeTruncateStr as _;
use unicode_width::UnicodeWidthStr as _;

/// Stands for what was cut off.
const CUT: char = '…';

/// A name in so many columns: its left side gives way, for its end says which function it is.
pub fn end_of(name: &str, columns: usize) -> String {
    if name.width() <= columns {
        return name.to_owned();
    }
    let (end, _) = name.unicode_truncate_start(columns.saturating_sub(1));
    format!("{CUT}{end}")
}

/// A text in so many columns, which says at its beginning what it is.
pub fn beginning_of(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let (beginning, _) = text.unicode_truncate(columns.saturating_sub(1));
    format!("{beginning}{CUT}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_stays_and_what_does_not_is_marked() {
        assert_eq!(end_of("api::handle", 11), "api::handle");
        assert_eq!(end_of("api::handle", 7), "…handle");
        assert_eq!(beginning_of("python3 -m app", 8), "python3…");
        // A wide character has two columns.
        assert_eq!(end_of("a名前", 4), "…前");
        assert_eq!(beginning_of("名前a", 4), "名…");
    }
}
