//! The formats of others: what their rules say of a file of ours.

use loopprobe::report::{Speedscope, Timeline};
use loopprobe_tests::synthetic;

use crate::{Page, draw, write_sink};

/// The rules of <https://www.speedscope.app/file-format-schema.json>, as far as a file of sampled
/// profiles is concerned.
fn speedscope_schema(file: &serde_json::Value) {
    let object = |value: &serde_json::Value, required: &[&str], optional: &[&str]| {
        let fields = value.as_object().unwrap();
        for name in required {
            assert!(fields.contains_key(*name), "{name} is missing");
        }
        for name in fields.keys().map(String::as_str) {
            assert!(
                required.contains(&name) || optional.contains(&name),
                "{name} is unknown"
            );
        }
    };
    let optional = ["activeProfileIndex", "exporter", "name"];
    object(file, &["$schema", "profiles", "shared"], &optional);
    assert_eq!(
        file["$schema"],
        "https://www.speedscope.app/file-format-schema.json"
    );
    assert!(file["exporter"].is_string() && file["name"].is_string());
    let profiles = file["profiles"].as_array().unwrap();
    assert!((file["activeProfileIndex"].as_u64().unwrap() as usize) < profiles.len());
    object(&file["shared"], &["frames"], &[]);
    for frame in file["shared"]["frames"].as_array().unwrap() {
        object(frame, &["name"], &["file", "line", "col"]);
        assert!(frame["name"].is_string());
        assert!(frame.get("line").is_none_or(serde_json::Value::is_number));
    }
    let units = [
        "bytes",
        "microseconds",
        "milliseconds",
        "nanoseconds",
        "none",
        "seconds",
    ];
    for profile in profiles {
        let required = [
            "type",
            "name",
            "unit",
            "startValue",
            "endValue",
            "samples",
            "weights",
        ];
        object(profile, &required, &[]);
        assert_eq!(profile["type"], "sampled");
        assert!(units.contains(&profile["unit"].as_str().unwrap()));
        assert!(profile["startValue"].is_number() && profile["endValue"].is_number());
    }
}

/// The rules of the trace event format for the events that a timeline is made of, and what its
/// readers rely on: slices of one track nest, and each track has a name.
fn trace_event_rules(events: &[serde_json::Value]) {
    let mut tracks: std::collections::BTreeMap<u64, Vec<(f64, f64)>> = Default::default();
    let mut named = std::collections::BTreeSet::new();
    for event in events {
        assert!(event["name"].is_string() && event["pid"].is_u64() && event["tid"].is_u64());
        let tid = event["tid"].as_u64().unwrap();
        match event["ph"].as_str().unwrap() {
            "M" => {
                assert!(event["args"]["name"].is_string());
                if event["name"] == "thread_name" {
                    assert!(named.insert(tid), "{tid} is named twice");
                }
            }
            "X" => {
                let (ts, dur) = (
                    event["ts"].as_f64().unwrap(),
                    event["dur"].as_f64().unwrap(),
                );
                assert!(ts >= 0.0 && dur >= 0.0 && event["args"].is_object());
                tracks.entry(tid).or_default().push((ts, ts + dur));
            }
            "i" => assert!(event["ts"].is_number() && event["s"] == "g"),
            other => panic!("unknown phase {other}"),
        }
    }
    for (tid, mut slices) in tracks {
        assert!(named.contains(&tid), "track {tid} has no name");
        slices.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.total_cmp(&a.1)));
        let mut open: Vec<f64> = Vec::new();
        for (from, to) in slices {
            while open.last().is_some_and(|end| *end <= from) {
                open.pop();
            }
            // A nanosecond of rounding to doubles of microseconds.
            assert!(
                open.last().is_none_or(|end| to <= end + 1e-3),
                "{tid}: {from} to {to}"
            );
            open.push(to);
        }
    }
}

#[test]
fn the_profiles_keep_the_rules_of_their_formats() {
    let mut polls = synthetic::polls(201);
    // A stack that begins before its poll and ends behind it.
    polls[0].stacks[0].start_ns -= 5_000_000;
    polls[0].stacks[0].ns = polls[0].duration_ns * 2;
    for events in [synthetic::session(&polls), synthetic::session(&[])] {
        let bytes = draw(Speedscope, &events);
        speedscope_schema(&serde_json::from_slice(&bytes).unwrap());
        let page = Page::default();
        write_sink(Timeline::new(page.clone()), &events);
        let timeline: Vec<serde_json::Value> = serde_json::from_slice(&page.0.take()).unwrap();
        trace_event_rules(&timeline);
    }
}
