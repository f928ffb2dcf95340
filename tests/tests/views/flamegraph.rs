//! The flamegraph: its widths, its colours, and what it leaves out.

use loopprobe::{
    model::Event,
    report::{Flamegraph, Measured},
};
use loopprobe_tests::synthetic;

use crate::{draw_text, total};

#[test]
fn the_flamegraph_is_as_wide_as_the_polls_were_long() {
    let polls = synthetic::polls(201);
    let svg = draw_text(Flamegraph::default(), &synthetic::session(&polls));
    let after = |mark: &str| svg.split_once(mark).unwrap().1;
    let samples: u64 = after("total_samples=\"")
        .split('"')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let truth = total(&polls) as f64;
    assert!((samples as f64 - truth).abs() / truth < 0.001);
    let shown = format!("<title>all ({}, 100%)", Measured(total(&polls)));
    assert!(svg.contains(&shown), "{shown}");
    for part in [
        "pid 1234",
        "threshold 10ms",
        "202 long polls",
        "in 30.0s",
        "7 events lost",
        "own code",
    ] {
        assert!(svg.contains(part), "{part} is missing");
    }
}

#[test]
fn a_session_without_long_polls_gives_a_picture_that_says_so() {
    let svg = draw_text(Flamegraph::default(), &synthetic::session(&[]));
    assert!(svg.contains("no long polls"));
}

#[test]
fn all_polls_are_as_wide_as_the_task_types_took() {
    let polls = synthetic::polls(200);
    let mut events = synthetic::session(&polls);
    let all = Flamegraph {
        all_polls: true,
        ..Flamegraph::default()
    };
    let svg = draw_text(all, &events);
    let Some(Event::Summary(summary)) = events.pop() else {
        panic!("no summary");
    };
    // The types that the summary does not know have long polls only.
    let known = summary.tasks[0].total_ns.unwrap();
    let uploads = polls
        .iter()
        .filter(|poll| poll.task.name == "api::upload::handle");
    let in_known: u64 = uploads.map(|poll| poll.duration_ns).sum();
    let truth = known + total(&polls) - in_known;
    let after = svg.split_once("total_samples=\"").unwrap().1;
    let samples: u64 = after.split('"').next().unwrap().parse().unwrap();
    assert_eq!(samples, truth);
    assert!(svg.contains("[polls below the threshold]"));
    assert!(svg.contains("Time of all polls"));
}

#[test]
fn a_task_type_has_its_own_colour_beside_a_function_of_its_name_and_the_root_has_none() {
    let mut polls = synthetic::polls(20);
    let task = polls[0].task.name.clone();
    for frame in polls
        .iter_mut()
        .flat_map(|poll| &mut poll.stacks)
        .flat_map(|s| &mut s.frames)
    {
        frame.function = Some(task.clone());
        frame.runtime = false;
    }
    let svg = draw_text(Flamegraph::default(), &synthetic::session(&polls));
    let colours = |name: &str| -> std::collections::BTreeSet<String> {
        svg.split("<title>")
            .filter(|part| part.starts_with(&format!("{name} (")))
            .map(|part| {
                part.split("fill=\"")
                    .nth(1)
                    .unwrap()
                    .split('"')
                    .next()
                    .unwrap()
                    .to_owned()
            })
            .collect()
    };
    let of_task = colours(&task);
    assert!(
        of_task.contains("rgb(143,203,143)") && of_task.len() == 2,
        "{of_task:?}"
    );
    assert_eq!(
        colours("all").into_iter().collect::<Vec<_>>(),
        ["rgb(196,200,207)"]
    );
    assert!(!svg.contains('\u{2063}'));
}

#[test]
fn the_runtimes_frames_can_be_left_out_and_their_time_stays() {
    let polls = synthetic::polls(201);
    let events = synthetic::session(&polls);
    let hidden = Flamegraph {
        hide_runtime: true,
        ..Flamegraph::default()
    };
    let (all, own) = (
        draw_text(Flamegraph::default(), &events),
        draw_text(hidden, &events),
    );
    assert!(all.contains("<title>std::fs::read (") && !own.contains("<title>std::fs::read ("));
    let shown = format!("<title>all ({}, 100%)", Measured(total(&polls)));
    assert!(own.contains(&shown), "{shown}");
}
