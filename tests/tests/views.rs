//! Every view adds up to the truth that the session was made with.

use std::{
    cell::RefCell,
    io::{self, Write},
    rc::Rc,
};

use loopprobe::{
    model::{Event, LongPoll},
    report::{AtEnd, Drawing, Flamegraph, Folded, Sink as _},
};
use loopprobe_tests::synthetic;

/// A writer whose content can be read afterwards.
#[derive(Clone, Default)]
struct Page(Rc<RefCell<Vec<u8>>>);

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn draw(drawing: impl Drawing + 'static, events: &[Event]) -> Vec<u8> {
    let page = Page::default();
    let mut views = AtEnd::default();
    views.add(drawing, page.clone());
    for event in events {
        views.event(event).unwrap();
    }
    page.0.take()
}

fn draw_text(drawing: impl Drawing + 'static, events: &[Event]) -> String {
    String::from_utf8(draw(drawing, events)).unwrap()
}

fn folded_lines(events: &[Event]) -> Vec<(String, u64)> {
    draw_text(Folded, events)
        .lines()
        .map(|line| {
            let (path, ns) = line.rsplit_once(' ').unwrap();
            (path.to_owned(), ns.parse().unwrap())
        })
        .collect()
}

fn total(polls: &[LongPoll]) -> u64 {
    polls.iter().map(|poll| poll.duration_ns).sum()
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
        ("api::upload::handle;[no stack];[cpu]".to_owned(), 1_000_000),
        (own.to_owned(), 48_000_000),
        (
            "api::upload::handle;[waiting for CPU]".to_owned(),
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

#[test]
fn the_flamegraph_is_as_wide_as_the_polls_were_long() {
    let polls = synthetic::polls(201);
    let svg = draw_text(Flamegraph, &synthetic::session(&polls));
    let after = |mark: &str| svg.split_once(mark).unwrap().1;
    let samples: u64 = after("total_samples=\"")
        .split('"')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let truth = total(&polls) as f64;
    assert!((samples as f64 - truth).abs() / truth < 0.001);
    let shown = after("<title>all (")
        .split(" us")
        .next()
        .unwrap()
        .replace(',', "");
    assert!((shown.parse::<f64>().unwrap() * 1e3 - truth).abs() / truth < 0.001);
    for part in ["pid 1234", "30.0s observed", "10.0ms", "7 events lost"] {
        assert!(svg.contains(part), "{part} is missing");
    }
}

#[test]
fn names_from_the_target_cannot_inject_markup() {
    let mut poll = synthetic::file_read(100, synthetic::START, 50);
    poll.task.name = "<script>alert(1)</script>".to_owned();
    poll.stacks[0].frames[0].function = Some("</title><img src=x onerror=alert(1)>".to_owned());
    let mut events = synthetic::session(&[poll]);
    events[0] = synthetic::head("<b>\u{1b}[31m");
    let svg = draw_text(Flamegraph, &events);
    assert!(!svg.contains("<script>alert"));
    assert!(!svg.contains("<img"));
    assert!(!svg.contains("<b>"));
    assert!(!svg.contains('\u{1b}'));
}

#[test]
fn a_session_without_long_polls_gives_a_picture_that_says_so() {
    let svg = draw_text(Flamegraph, &synthetic::session(&[]));
    assert!(svg.contains("no long polls"));
}
