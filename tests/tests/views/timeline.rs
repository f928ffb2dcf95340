//! The timeline: a track for each worker.

use loopprobe::{
    model::{Stack, StackKind},
    report::Timeline,
};
use loopprobe_tests::synthetic;

use crate::{Page, write_sink};

#[test]
fn the_timeline_has_a_track_per_worker_and_its_slices_nest() {
    let polls = synthetic::polls(40);
    let page = Page::default();
    write_sink(Timeline::new(page.clone()), &synthetic::session(&polls));
    let events: Vec<serde_json::Value> = serde_json::from_slice(&page.0.take()).unwrap();
    let of = |ph: &str, cat: &str| -> Vec<_> {
        let wanted = |event: &&serde_json::Value| {
            event["ph"] == ph && (cat.is_empty() || event["cat"] == cat)
        };
        events.iter().filter(wanted).collect()
    };
    let threads = of("M", "")
        .into_iter()
        .filter(|e| e["name"] == "thread_name");
    assert_eq!(threads.count(), 4);
    let slices = of("X", "poll");
    assert_eq!(slices.len(), polls.len());
    for (slice, poll) in slices.iter().zip(&polls) {
        let micros = (poll.start_ns - synthetic::START) as f64 / 1e3;
        assert_eq!(slice["ts"].as_f64(), Some(micros));
        assert_eq!(slice["dur"].as_f64(), Some(poll.duration_ns as f64 / 1e3));
    }
    let span = |e: &serde_json::Value| {
        let (ts, dur) = (e["ts"].as_f64().unwrap(), e["dur"].as_f64().unwrap());
        (e["tid"].as_u64().unwrap(), ts, ts + dur)
    };
    let blocked = of("X", "blocked");
    // And the poll without a stack, which waited for a CPU.
    assert_eq!(blocked.len(), 21);
    for inner in blocked {
        let (tid, from, to) = span(inner);
        let inside = slices.iter().map(|e| span(e));
        assert!(
            inside
                .filter(|s| s.0 == tid)
                .any(|s| s.1 <= from && to <= s.2)
        );
    }
}

#[test]
fn a_wait_for_a_cpu_follows_the_wait_that_it_ends_and_a_preempted_poll_shows_its_own() {
    let mut polls = synthetic::polls(2);
    let mut blocked = polls[0].stacks[0].clone();
    blocked.kind = StackKind::Blocked;
    blocked.start_ns = polls[0].start_ns;
    blocked.ns = 1_000_000;
    let waiting = Stack {
        kind: StackKind::Runnable,
        ns: 2_000_000,
        ..blocked.clone()
    };
    polls[0].stacks = vec![blocked, waiting];
    polls[1].stacks.clear();
    polls[1].split.as_mut().unwrap().runnable_ns = 3_000_000;
    let page = Page::default();
    write_sink(Timeline::new(page.clone()), &synthetic::session(&polls));
    let events: Vec<serde_json::Value> = serde_json::from_slice(&page.0.take()).unwrap();
    let slices: Vec<_> = events
        .iter()
        .filter(|event| event["cat"] == "blocked")
        .collect();
    let micros = |slice: &serde_json::Value, field: &str| slice[field].as_f64().unwrap();
    let (wait, cpu) = (slices[0], slices[1]);
    assert!((micros(wait, "ts") + micros(wait, "dur") - micros(cpu, "ts")).abs() < 0.001);
    assert_eq!(micros(cpu, "dur"), 2_000.0);
    let preempted = slices[2];
    assert!(
        preempted["name"]
            .as_str()
            .unwrap()
            .starts_with("[waiting for a CPU]")
    );
    assert_eq!(micros(preempted, "dur"), 3_000.0);
}
