//! What is shown at one address: the figures of many sessions.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use prometheus_client::{encoding::text::encode_registry, registry::Registry};

use super::{figures::Figures, targets::Targets};

/// What is shown.
#[derive(Debug, Default)]
pub(super) struct Shown(Mutex<Content>);

#[derive(Debug, Default)]
struct Content {
    panels: BTreeMap<u64, Panel>,
    next: u64,
    targets: Option<Targets>,
}

#[derive(Debug)]
struct Panel {
    labels: Labels,
    figures: Arc<Mutex<Figures>>,
}

type Labels = Vec<(&'static str, String)>;

impl Shown {
    fn content(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows a session's figures; returns by which number they are taken away.
    pub(super) fn add(&self, labels: Labels, figures: Arc<Mutex<Figures>>) -> u64 {
        let mut content = self.content();
        content.next += 1;
        let number = content.next;
        content.panels.insert(number, Panel { labels, figures });
        number
    }

    /// Takes a session's figures away.
    pub(super) fn remove(&self, number: u64) {
        self.content().panels.remove(&number);
    }

    /// How many processes are observed, and how many are not.
    pub(super) fn tell(&self, targets: Targets) {
        self.content().targets = Some(targets);
    }

    /// All of it in OpenMetrics' text format.
    pub(super) fn text(&self) -> Result<String, std::fmt::Error> {
        let content = self.content();
        let mut texts = Vec::new();
        for panel in content.panels.values() {
            let labels = panel.labels.iter();
            let labels =
                labels.map(|(name, value)| (Cow::Borrowed(*name), Cow::Owned(value.clone())));
            let mut registry = Registry::with_labels(labels);
            let figures = panel.figures.lock();
            let figures = figures.unwrap_or_else(PoisonError::into_inner).clone();
            registry.register_collector(Box::new(figures));
            texts.push(encoded(&registry)?);
        }
        if let Some(targets) = content.targets {
            let mut registry = Registry::default();
            registry.register_collector(Box::new(targets));
            texts.push(encoded(&registry)?);
        }
        Ok(merged(&texts))
    }
}

fn encoded(registry: &Registry) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    encode_registry(&mut text, registry)?;
    Ok(text)
}

/// One text of many: each metric's head once, with the samples of all behind it.
fn merged(texts: &[String]) -> String {
    let mut order = Vec::new();
    let mut metrics: BTreeMap<&str, (Vec<&str>, Vec<&str>)> = BTreeMap::new();
    for text in texts {
        let mut current = "";
        let mut is_first = false;
        for line in text.lines() {
            let head = line
                .strip_prefix("# ")
                .and_then(|rest| rest.split(' ').nth(1));
            if let Some(name) = head {
                if name != current {
                    current = name;
                    is_first = !metrics.contains_key(name);
                    if is_first {
                        order.push(name);
                    }
                }
                let (heads, _) = metrics.entry(name).or_default();
                if is_first {
                    heads.push(line);
                }
            } else {
                metrics.entry(current).or_default().1.push(line);
            }
        }
    }
    let mut text = String::new();
    for name in order {
        let (heads, samples) = &metrics[name];
        for line in heads.iter().chain(samples) {
            let _ = writeln!(text, "{line}");
        }
    }
    text.push_str("# EOF\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_metric_has_one_head() {
        let first = "# HELP a A.\n# TYPE a gauge\na{pid=\"1\"} 1\n# HELP b B.\n# TYPE b gauge\nb{pid=\"1\"} 2\n";
        let second =
            "# HELP a A.\n# TYPE a gauge\na{pid=\"2\"} 3\n# HELP c C.\n# TYPE c gauge\nc 4\n";
        let both = "# HELP a A.\n# TYPE a gauge\na{pid=\"1\"} 1\na{pid=\"2\"} 3\n# HELP b B.\n# TYPE b gauge\nb{pid=\"1\"} 2\n\
                    # HELP c C.\n# TYPE c gauge\nc 4\n# EOF\n";
        assert_eq!(merged(&[first.to_owned(), second.to_owned()]), both);
    }

    #[test]
    fn figures_come_and_go_with_their_labels() {
        let shown = Shown::default();
        let one = shown.add(vec![("pid", "1".to_owned())], Arc::default());
        let other = shown.add(vec![("pid", "2".to_owned())], Arc::default());
        let text = shown.text().unwrap();
        assert!(
            text.contains("loopprobe_polls_total{pid=\"1\"} 0"),
            "{text}"
        );
        assert!(
            text.contains("loopprobe_polls_total{pid=\"2\"} 0"),
            "{text}"
        );
        assert_eq!(text.matches("# TYPE loopprobe_polls counter").count(), 1);
        shown.remove(one);
        let text = shown.text().unwrap();
        assert!(
            !text.contains("pid=\"1\"") && text.contains("pid=\"2\""),
            "{text}"
        );
        shown.remove(other);
        assert_eq!(shown.text().unwrap(), "# EOF\n");
    }
}
