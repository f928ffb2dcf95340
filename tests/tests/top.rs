//! The live view shows what there is, and does what keys say.

use loopprobe::{
    model::{CurrentPoll, Event, Live, LongPoll, Worker},
    top::{Action, Focus, SortBy, State, draw},
};
use loopprobe_tests::synthetic::{self, START};
use ratatui::{Terminal, backend::TestBackend};

const MS: u64 = 1_000_000;

fn state(polls: &[LongPoll]) -> State {
    let mut state = State::default();
    state.event(&synthetic::head("api-server"));
    polls
        .iter()
        .cloned()
        .for_each(|poll| state.event(&Event::LongPoll(poll)));
    state
}

fn screen(state: &State, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(state, frame)).unwrap();
    terminal.backend().to_string()
}

fn live(at_ms: u64, off_ms: u64, poll: Option<CurrentPoll>) -> Live {
    Live {
        time_ns: START + at_ms * MS,
        threshold_ns: 10 * MS,
        workers: vec![Worker {
            tid: 100,
            thread: "tokio-rt-worker".to_owned(),
            off_ns: off_ms * MS,
            blocked: poll.is_some(),
            poll,
        }],
        polls: Some(at_ms * 10),
        ..Live::default()
    }
}

#[test]
fn eighty_by_twenty_four_shows_worker_task_cause_call_advice_and_stack() {
    let mut state = state(&synthetic::polls(20));
    let poll = CurrentPoll {
        task: "api::upload::handle".to_owned(),
        task_id: Some(17),
        start_ns: Some(START),
    };
    state.snapshot(live(1_000, 0, None));
    state.snapshot(live(5_000, 4_000, Some(poll)));
    state.apply(Action::Move(1));
    let screen = screen(&state, 80, 24);
    for part in [
        "api-server (1234)",
        "10,000/s",
        ">= 10ms",
        "100%",
        "blocked   5.00s api::upload::handle #17",
        "api::search::query",
        "fix: move the computation to spawn_blocking",
        "api::search::score",
        "20ms",
        "q quit",
    ] {
        assert!(screen.contains(part), "{part} is missing:\n{screen}");
    }
}

/// Where threads are watched, polls are not counted, and how busy a worker is, is not known.
#[test]
fn what_is_not_known_is_a_dash() {
    let mut state = state(&synthetic::polls(3));
    let watched = |at_ms, start_ns| Live {
        polls: None,
        possible: Some(7),
        ..live(
            at_ms,
            0,
            Some(CurrentPoll {
                task: "api::upload::handle".to_owned(),
                task_id: Some(17),
                start_ns,
            }),
        )
    };
    state.snapshot(watched(1_000, None));
    state.snapshot(watched(5_000, Some(START + 2_000 * MS)));
    let waits = screen(&state, 100, 24);
    state.snapshot(watched(6_000, None));
    let computes = screen(&state, 100, 24);
    for (screen, part) in [
        (&waits, "  -/s"),
        (&waits, "7 possible"),
        (&waits, "    - blocked   3.00s api::upload::handle #17"),
        (&computes, "       - api::upload::handle #17"),
    ] {
        assert!(screen.contains(part), "{part} is missing:\n{screen}");
    }
    assert!(!waits.contains('%'), "{waits}");
}

#[test]
fn every_size_can_be_drawn() {
    let mut state = state(&synthetic::polls(200));
    state.snapshot(live(1_000, 0, None));
    state.help = true;
    for (width, height) in [(1, 1), (10, 3), (40, 10), (80, 24), (300, 100)] {
        screen(&state, width, height);
    }
    screen(&State::default(), 80, 24);
}

#[test]
fn a_worker_that_is_parked_is_idle_and_one_blocked_in_a_poll_is_busy() {
    let mut state = state(&[]);
    state.snapshot(live(1_000, 0, None));
    state.snapshot(live(2_000, 750, None));
    assert_eq!(state.busy.share(100), Some(0.25));
    let blocked = CurrentPoll {
        start_ns: Some(START + 2_000 * MS),
        ..CurrentPoll::default()
    };
    state.snapshot(live(3_000, 1_750, Some(blocked)));
    assert_eq!(state.busy.share(100), Some(1.0));
}

#[test]
fn the_newest_poll_is_followed_until_another_is_chosen() {
    let mut state = state(&synthetic::polls(5));
    assert_eq!(state.selected_poll(), 0);
    state.apply(Action::Move(2));
    let chosen = state.polls()[2].1.clone();
    state.event(&Event::LongPoll(synthetic::computing(103, START + 99, 50)));
    assert_eq!(state.selected_poll(), 3);
    assert_eq!(state.polls()[3].1, chosen);
}

#[test]
fn a_paused_view_stands_still_and_catches_up() {
    let mut state = state(&synthetic::polls(5));
    state.apply(Action::Pause);
    let before = screen(&state, 100, 30);
    state.event(&Event::LongPoll(synthetic::computing(103, START + 99, 900)));
    assert_eq!(state.polls().len(), 6);
    assert!(before.contains("PAUSED"));
    state.apply(Action::Pause);
    assert_eq!(state.polls().len(), 7);
}

#[test]
fn a_poll_that_still_runs_is_one_row() {
    let mut state = state(&[]);
    let done = synthetic::file_read(100, START, 500);
    for ms in [100, 200] {
        state.event(&Event::LongPoll(LongPoll {
            duration_ns: ms * MS,
            ended: false,
            ..done.clone()
        }));
    }
    assert_eq!(state.polls().len(), 1);
    state.event(&Event::LongPoll(done));
    assert_eq!(state.polls().len(), 1);
    assert_eq!(state.fold.total_ns(), 500 * MS);
}

#[test]
fn filters_match_names_calls_and_causes() {
    let mut state = state(&synthetic::polls(20));
    let type_text = |state: &mut State, text: &str| {
        state.apply(Action::Filter);
        text.chars().for_each(|c| state.apply(Action::Type(c)));
        state.apply(Action::Accept);
    };
    type_text(&mut state, "File I/O");
    assert_eq!(state.polls().len(), 10);
    state.apply(Action::Filter);
    state.apply(Action::Clear);
    assert_eq!(state.polls().len(), 21);
    type_text(&mut state, "search::score");
    assert_eq!(state.polls().len(), 10);
}

#[test]
fn tasks_are_sorted_and_the_threshold_is_bounded() {
    let mut state = state(&synthetic::polls(20));
    assert_eq!(state.sort, SortBy::Blocked);
    let tasks = state.tasks();
    assert!(tasks.is_sorted_by(|a, b| a.blocked_ns >= b.blocked_ns));
    state.apply(Action::Sort);
    state.apply(Action::Sort);
    assert!(state.tasks().is_sorted_by(|a, b| a.max_ns >= b.max_ns));
    state.apply(Action::SwitchFocus);
    assert_eq!(state.focus, Focus::Tasks);
    state.apply(Action::Threshold { up: true });
    assert_eq!(state.threshold_ns(), 20 * MS);
    for _ in 0..100 {
        state.apply(Action::Threshold { up: false });
    }
    assert_eq!(state.threshold_ns(), 1_000);
}

#[test]
fn the_filter_and_the_threshold_apply_to_every_pane_and_to_the_counts() {
    let mut state = state(&synthetic::polls(20));
    let all = state.counted();
    assert_eq!(all.count, 21);
    state.filter = "File I/O".to_owned();
    assert_eq!((state.counted().count, state.polls().len()), (10, 10));
    let names: Vec<_> = state.tasks().into_iter().map(|task| task.name).collect();
    assert_eq!(names, ["api::upload::handle"]);
    let in_bars = |state: &State| {
        state
            .histogram()
            .bars()
            .iter()
            .map(|bar| bar.2)
            .sum::<u64>()
    };
    assert_eq!(in_bars(&state), 10);
    state.apply(Action::Close);
    assert_eq!(state.counted(), all);
    state.apply(Action::Threshold { up: true });
    let long = state.polls().len();
    assert!(
        long < 21
            && state
                .polls()
                .iter()
                .all(|(_, poll)| poll.duration_ns >= 20 * MS)
    );
    assert_eq!(
        (state.counted().count, in_bars(&state)),
        (long as u64, long as u64)
    );
    let shown = screen(&state, 80, 24);
    assert!(shown.contains(&format!(">= 20ms: {long} long")), "{shown}");
}

#[test]
fn escape_closes_what_is_open_and_the_help_holds_the_keys() {
    let mut state = state(&synthetic::polls(2));
    state.filter = "x".to_owned();
    state.apply(Action::Help);
    state.apply(Action::Close);
    assert!(!state.help && state.filter == "x");
    state.apply(Action::Close);
    assert!(state.filter.is_empty());
    assert!(Action::Close.passes_help() && Action::Quit.passes_help());
    assert!(!Action::Pause.passes_help() && !Action::Flamegraph.passes_help());
}

#[test]
fn a_long_name_keeps_its_function_and_a_large_screen_is_used() {
    let mut polls = synthetic::polls(60);
    let long = format!("{}::the_very_function", "a_module_with_a_name".repeat(8));
    for poll in &mut polls {
        poll.task.name.clone_from(&long);
        if let Some(call) = poll.diagnosis.as_mut().and_then(|d| d.call.as_mut()) {
            call.function.clone_from(&long);
        }
        for frame in poll.stacks.iter_mut().flat_map(|stack| &mut stack.frames) {
            frame.function = Some(long.clone());
        }
    }
    let mut state = state(&polls);
    state.snapshot(live(1_000, 0, None));
    for (width, height) in [(80, 24), (160, 50)] {
        let screen = screen(&state, width, height);
        let named = screen
            .lines()
            .filter(|line| line.contains("::the_very_function"))
            .count();
        // All but the header, the workers, the bars' and lists' heads, what to do and the keys.
        assert!(named >= usize::from(height) - 14, "{named}:\n{screen}");
    }
}
