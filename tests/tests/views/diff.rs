//! The comparison of two sessions.

use loopprobe::{
    model::{Event, LongPoll},
    report::{Diff, Side},
};
use loopprobe_tests::synthetic;

fn side(polls: &[LongPoll], threshold_ns: u64) -> Side {
    let mut side = Side::default();
    for mut event in synthetic::session(polls) {
        if let Event::Session(session) = &mut event {
            session.threshold_ns = threshold_ns;
        }
        side.event(&event);
    }
    side
}

#[test]
fn a_comparison_names_different_thresholds_and_its_json_has_types_and_integers() {
    let polls = synthetic::polls(201);
    let diff = |before, after| {
        let mut out = Vec::new();
        let diff = Diff::new(side(&polls, before), side(&polls, after));
        diff.write_json(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        lines.collect::<Vec<serde_json::Value>>()
    };
    let lines = diff(10_000_000, 20_000_000);
    assert_eq!(lines[0]["type"], "diff");
    let remark = lines[0]["remark"].as_str().unwrap();
    assert!(
        remark.contains("from 10ms to 20ms are counted before alone"),
        "{remark}"
    );
    for change in &lines[1..] {
        assert_eq!(change["type"], "change");
        assert!(
            change["ns_per_minute"][0].is_u64() && change["max_ns"][1].is_u64(),
            "{change}"
        );
    }
    assert!(lines.len() > 2 && diff(1, 1)[0]["remark"].is_null());
}

#[test]
fn what_did_not_change_beyond_chance_is_white_in_a_comparison() {
    let (before, after) = (synthetic::polls(201), synthetic::polls(203));
    let mut svg = Vec::new();
    let diff = Diff::new(side(&before, 1), side(&after, 1));
    diff.flamegraph(&mut svg).unwrap();
    let svg = String::from_utf8(svg).unwrap();
    let (_, frames) = svg.split_once("id=\"frames\"").unwrap();
    let (frames, _) = frames.rsplit_once("</g>").unwrap();
    assert!(frames.contains("rgb(250,250,250)"), "{frames}");
    assert!(!frames.contains("rgb(255,100,100)"), "{frames}");
}
