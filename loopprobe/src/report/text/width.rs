//! Fitting text to a terminal.

use std::borrow::Cow;

use unicode_width::UnicodeWidthStr as _;

use crate::report::end_of;

/// Below this, cutting leaves nothing to read; a narrower terminal wraps.
const NARROWEST: usize = 40;

/// How many columns a line has; `None` where lines may be as long as they like, as in a file or a
/// pipe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Width(Option<usize>);

impl Width {
    pub(super) fn new(columns: Option<usize>) -> Self {
        Self(columns.map(|columns| columns.max(NARROWEST)))
    }

    /// What is left of a line of which `used` columns are taken.
    pub(super) fn behind(self, used: usize) -> Self {
        Self(self.0.map(|columns| columns.saturating_sub(used)))
    }

    /// A name in this width: its left side gives way, for its end says which function it is.
    pub(super) fn fit(self, name: &str) -> Cow<'_, str> {
        match self.0 {
            Some(columns) => end_of(name, columns).into(),
            None => name.into(),
        }
    }

    /// A name and a place in the source behind it. The name keeps at least half of the room.
    pub(super) fn fit_pair(self, name: &str, place: &str) -> String {
        const GAP: usize = 2;
        let Some(columns) = self.0 else {
            return format!("{name}  {place}");
        };
        let most_for_place = columns.saturating_sub(name.width() + GAP).max(columns / 2);
        let place = Self(Some(most_for_place.saturating_sub(GAP))).fit(place);
        let name = self.behind(place.width() + GAP).fit(name);
        format!("{name}  {place}")
    }

    /// Lines of words. The first begins where the cursor is, behind `indent` columns; the others
    /// are indented so far.
    pub(super) fn wrap(self, text: &str, indent: usize) -> String {
        let Some(columns) = self.0 else {
            return text.to_owned();
        };
        let room = columns.saturating_sub(indent).max(NARROWEST / 2);
        let options = textwrap::Options::new(room)
            .break_words(false)
            .word_splitter(textwrap::WordSplitter::NoHyphenation);
        let lines = textwrap::wrap(text, options);
        lines.join(&format!("\n{:indent$}", ""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_loses_its_left_side_never_its_end() {
        let width = Width(Some(12));
        assert_eq!(width.fit("api::upload::store"), "…load::store");
        assert_eq!(width.fit("api::store"), "api::store");
        assert_eq!(Width(None).fit("api::upload::store"), "api::upload::store");
        assert_eq!(Width(Some(4)).fit("日本語"), "…語");
    }

    #[test]
    fn a_place_leaves_half_of_the_room_to_its_name() {
        let width = Width(Some(40));
        let pair = width.fit_pair(
            "loopprobe_demo::pages::fetch_quote",
            "some/very/long/path/of/the/source/pages.rs:57",
        );
        assert_eq!(pair.width(), 40);
        assert!(pair.contains("::fetch_quote  "), "{pair}");
        assert!(pair.ends_with("pages.rs:57"), "{pair}");
        assert_eq!(width.fit_pair("a", "b.rs:1"), "a  b.rs:1");
    }

    #[test]
    fn words_stay_whole() {
        let text = "use tokio::net or an async client, or tokio::task::spawn_blocking";
        let wrapped = Width(Some(40)).wrap(text, 4);
        assert!(wrapped.lines().all(|line| line.width() <= 40), "{wrapped}");
        assert_eq!(
            wrapped.split_whitespace().collect::<Vec<_>>(),
            text.split_whitespace().collect::<Vec<_>>()
        );
        assert_eq!(Width(None).wrap(text, 4), text);
    }
}
