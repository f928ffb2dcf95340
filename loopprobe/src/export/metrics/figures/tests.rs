//! Which figures a session has.

use super::*;

fn names(mode: Mode) -> Vec<&'static str> {
    let session = format!(
        r#"{{"schema":1,"version":"0","pid":1,"name":"x","start_ns":0,"start_unix_ns":0,"threshold_ns":1,"mode":"{}","sites":0,
            "task_types":0,"tokio":[],"limits":[]}}"#,
        if mode == Mode::Watch {
            "watch"
        } else {
            "exact"
        },
    );
    let mut figures = Figures::default();
    figures.event(&Event::Session(serde_json::from_str(&session).unwrap()));
    figures.live(&Live {
        polls: (mode != Mode::Watch).then_some(1),
        possible: (mode == Mode::Watch).then_some(2),
        ..Live::default()
    });
    figures
        .families()
        .iter()
        .map(|family| family.name)
        .collect()
}

#[test]
fn what_is_not_known_where_threads_are_watched_is_left_out() {
    let (exact, watch) = (names(Mode::Exact), names(Mode::Watch));
    for counted in [
        "loopprobe_workers",
        "loopprobe_polls",
        "loopprobe_poll_duration",
        "loopprobe_worker_busy_ratio",
    ] {
        assert!(
            exact.contains(&counted) && !watch.contains(&counted),
            "{counted}"
        );
    }
    let possible = "loopprobe_possible_long_polls";
    assert!(watch.contains(&possible) && !exact.contains(&possible));
    assert!(watch.contains(&"loopprobe_long_polls"));
}
