//! What a guest has printed.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use serde_json::Value;

/// Files by name, such as `sleep/truth`.
pub(super) struct Output(BTreeMap<String, String>);

impl Output {
    /// Takes apart what `init.sh` prints.
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        let mut files: BTreeMap<String, String> = BTreeMap::new();
        let mut current = String::new();
        for line in text.lines() {
            match line.strip_prefix("### ") {
                Some(name) => name.clone_into(&mut current),
                None => {
                    let file = files.entry(current.clone()).or_default();
                    file.push_str(line);
                    file.push('\n');
                }
            }
        }
        ensure!(
            current == "done",
            "the guest ended early, after `{current}`:\n{}",
            files.remove(&current).unwrap_or_default()
        );
        Ok(Self(files))
    }

    /// A file's text; empty if the guest had nothing to say.
    pub(super) fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", |text| text.trim_end())
    }

    /// A file of JSON, a value a line.
    pub(super) fn json(&self, name: &str) -> anyhow::Result<Vec<Value>> {
        self.text(name)
            .lines()
            .map(|line| serde_json::from_str(line).with_context(|| format!("{name}: {line}")))
            .collect()
    }

    /// The value behind a word at the beginning of a line.
    pub(super) fn value(&self, file: &str, word: &str) -> Option<&str> {
        self.text(file)
            .lines()
            .find_map(|line| line.strip_prefix(word)?.strip_prefix(' '))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_follow_their_names() -> anyhow::Result<()> {
        let output = Output::parse("### a/b\nx 1\ny 2\n### c\n{}\n### done\n")?;
        assert_eq!(output.text("a/b"), "x 1\ny 2");
        assert_eq!(output.value("a/b", "y"), Some("2"));
        assert_eq!(output.value("a/b", "z"), None);
        assert_eq!(output.json("c")?.len(), 1);
        Ok(())
    }

    #[test]
    fn an_end_before_the_end_is_an_error() {
        assert!(Output::parse("### a\nx\n").is_err());
        assert!(Output::parse("").is_err());
    }
}
