//! Folded stacks.

use loopprobe::{
    model::{Event, LongPoll},
    report::Folded,
};
use loopprobe_tests::synthetic;

use crate::{draw_text, total};

fn folded_lines(events: &[Event]) -> Vec<(String, u64)> {
    draw_text(Folded, events)
        .lines()
        .map(|line| {
            let (path, ns) = line.rsplit_once(' ').unwrap();
            (path.to_owned(), ns.parse().unwrap())
        })
        .collect()
}

#[test]
fn the_folded_stacks_add_up_to_the_long_polls_durations() {
    let polls = synthetic::polls(201);
    let lines = folded_lines(&synthetic::session(&polls));
    assert_eq!(lines.iter().map(|(_, ns)| ns).sum::<u64>(), total(&polls));
}

#[test]
fn off_cpu_parts_keep_their_durations_and_samples_share_the_rest() {
    let poll = synthetic::file_read(100, synthetic::START, 50);
    let lines = folded_lines(&synthetic::session(&[poll]));
    let own = "api::upload::handle;tokio::runtime::task::raw::poll;hyper::body::drive;\
               api::upload::store;std::fs::read;[file I/O: read]";
    let expected = [
        (
            "api::upload::handle;[no stack];[computing]".to_owned(),
            1_000_000,
        ),
        (own.to_owned(), 48_000_000),
        (
            "api::upload::handle;[waiting for a CPU]".to_owned(),
            1_000_000,
        ),
    ];
    let mut lines = lines;
    lines.sort();
    let mut expected = expected.to_vec();
    expected.sort();
    assert_eq!(lines, expected);

    let poll = synthetic::computing(100, synthetic::START, 30);
    let lines = folded_lines(&synthetic::session(&[poll]));
    let ns = |name: &str| {
        lines
            .iter()
            .find(|(path, _)| path.contains(name))
            .unwrap()
            .1
    };
    assert_eq!((ns("score"), ns("sort")), (20_000_000, 10_000_000));
}

#[test]
fn a_poll_that_is_reported_while_it_runs_counts_once() {
    let done = synthetic::file_read(100, synthetic::START, 500);
    let interim = |ms: u64| LongPoll {
        duration_ns: ms * 1_000_000,
        ended: false,
        ..done.clone()
    };
    let never_ended = LongPoll {
        tid: 101,
        ..interim(300)
    };
    let sent = [interim(100), never_ended, interim(200), done.clone()];
    let lines = folded_lines(&synthetic::session(&sent));
    assert_eq!(lines.iter().map(|(_, ns)| ns).sum::<u64>(), 800_000_000);
}

#[test]
fn parts_that_do_not_fit_the_duration_cannot_change_the_total() {
    let mut poll = synthetic::file_read(100, synthetic::START, 50);
    poll.duration_ns = 20_000_000;
    poll.stacks[0].ns = u64::MAX;
    let mut without_split = synthetic::computing(101, synthetic::START, 30);
    without_split.split = None;
    let mut bare = without_split.clone();
    bare.tid = 102;
    bare.stacks.clear();
    let lines = folded_lines(&synthetic::session(&[poll, without_split, bare]));
    assert_eq!(lines.iter().map(|(_, ns)| ns).sum::<u64>(), 80_000_000);
    assert!(lines.contains(&("api::search::query;[no stack]".to_owned(), 30_000_000)));
}
