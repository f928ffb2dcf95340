//! Words in views: those of the target do no harm, those of causes are the report's.

use loopprobe::{
    model::Sink as _,
    report::{Flamegraph, Folded, Html, TextOptions, TextSink},
};
use loopprobe_tests::synthetic;

use crate::{Page, draw_text, write_sink};

#[test]
fn names_from_the_target_cannot_inject_markup() {
    let mut poll = synthetic::file_read(100, synthetic::START, 50);
    poll.task.name = "<script>alert(1)</script>".to_owned();
    poll.stacks[0].frames[0].function = Some("</title><img src=x onerror=alert(1)>".to_owned());
    let mut events = synthetic::session(&[poll]);
    events[0] = synthetic::head("<b>\u{1b}[31m");
    let page = Page::default();
    write_sink(Html::new(page.clone()), &events);
    let html = String::from_utf8(page.0.take()).unwrap();
    for text in [draw_text(Flamegraph::default(), &events), html] {
        assert!(!text.contains("<script>alert"));
        assert!(!text.contains("<img"));
        assert!(!text.contains("<b>\u{fffd}"));
        assert!(!text.contains('\u{1b}'));
        assert!(text.contains("alert(1)"));
    }
}

#[test]
fn causes_have_the_reports_words_in_graphs() {
    let graph = draw_text(Folded, &synthetic::session(&synthetic::polls(20)));
    let mut text = Vec::new();
    let mut sink = TextSink::new(&mut text, TextOptions::default());
    for event in synthetic::session(&synthetic::polls(20)) {
        sink.event(&event).unwrap();
    }
    let text = String::from_utf8(text).unwrap();
    let leaves = graph
        .lines()
        .filter_map(|line| line.rsplit_once(' ')?.0.rsplit_once(";["))
        .map(|(_, leaf)| leaf);
    let words: std::collections::BTreeSet<&str> = leaves
        .map(|leaf| leaf.split([':', ']']).next().unwrap())
        .collect();
    assert!(
        words.contains("computing") && words.contains("waiting for a CPU"),
        "{words:?}"
    );
    for word in words.iter().filter(|word| !word.starts_with("no stack")) {
        assert!(
            text.contains(word),
            "`{word}` is not in the report:\n{text}"
        );
    }
}
