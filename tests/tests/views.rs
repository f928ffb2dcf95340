//! Every view adds up to the truth that the session was made with.

use std::{
    cell::RefCell,
    io::{self, Write},
    rc::Rc,
};

use loopprobe::{
    model::{Event, LongPoll, Sink, Stack, StackKind},
    report::{
        AtEnd, Diff, Drawing, Flamegraph, Folded, Html, Measured, Pprof, Side, Speedscope,
        TextOptions, TextSink, Timeline,
    },
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

fn write_sink(mut sink: impl Sink, events: &[Event]) {
    for event in events {
        sink.event(event).unwrap();
    }
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
fn a_session_without_long_polls_gives_a_picture_that_says_so() {
    let svg = draw_text(Flamegraph::default(), &synthetic::session(&[]));
    assert!(svg.contains("no long polls"));
}

#[test]
fn speedscope_weights_add_up_and_name_their_frames() {
    let polls = synthetic::polls(201);
    let json: serde_json::Value =
        serde_json::from_slice(&draw(Speedscope, &synthetic::session(&polls))).unwrap();
    let frames = json["shared"]["frames"].as_array().unwrap();
    let all = &json["profiles"][0];
    let weights = all["weights"].as_array().unwrap();
    let sum: u64 = weights.iter().map(|weight| weight.as_u64().unwrap()).sum();
    assert_eq!(sum, total(&polls));
    assert_eq!(all["endValue"].as_u64(), Some(sum));
    assert_eq!(all["samples"].as_array().unwrap().len(), weights.len());
    for sample in all["samples"].as_array().unwrap() {
        for frame in sample.as_array().unwrap() {
            assert!((frame.as_u64().unwrap() as usize) < frames.len());
        }
    }
    let others = json["profiles"].as_array().unwrap()[1..].iter();
    let by_task: u64 = others.map(|p| p["endValue"].as_u64().unwrap()).sum();
    assert_eq!(by_task, sum);
}

/// Reads with the reader that the format comes from. Where Go is not installed nothing can be said,
/// and the test says so.
#[test]
fn go_tool_pprof_reads_the_profile() {
    if std::process::Command::new("go")
        .arg("version")
        .output()
        .is_err()
    {
        eprintln!("skipped: `go` is not installed (apt-get install golang-go)");
        return;
    }
    let mut polls = synthetic::polls(201);
    // The library's frame comes first on the stack, and so would its mapping.
    let frames = &mut polls[0].stacks[0].frames;
    frames[0].module = Some("/usr/lib/libc.so.6".to_owned());
    frames[1].module = Some("/usr/bin/api-server".to_owned());
    frames[2].function = Some("<hyper::Body<T> as hyper::Drive>::poll".to_owned());
    let path = std::env::temp_dir().join(format!("loopprobe-{}.pb.gz", std::process::id()));
    std::fs::write(&path, draw(Pprof, &synthetic::session(&polls))).unwrap();
    let pprof = |args: &[&str]| {
        let output = std::process::Command::new("go")
            .args(["tool", "pprof", "-symbolize=none"])
            .args(args)
            .arg(&path)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let top = pprof(&["-top", "-unit=ms", "-nodecount=99"]);
    assert!(top.contains("Type: blocked"), "{top}");
    let shown = top.split(" total").next().unwrap();
    let shown = shown.rsplit("of ").next().unwrap().trim_end_matches("ms");
    let truth = total(&polls) as f64 / 1e6;
    let relative = (shown.parse::<f64>().unwrap() - truth).abs() / truth;
    assert!(relative < 0.001, "{top}");
    let leaves = synthetic::file_reads_ns(&polls) as f64 / 1e6;
    let line = top
        .lines()
        .find(|line| line.ends_with("[file I/O: read]"))
        .unwrap();
    let flat = line
        .split_whitespace()
        .next()
        .unwrap()
        .trim_end_matches("ms");
    assert!(
        (flat.parse::<f64>().unwrap() - leaves).abs() / leaves < 0.001,
        "{line}"
    );
    let raw = pprof(&["-raw"]);
    assert!(raw.contains("api::upload::store src/upload.rs:57"), "{raw}");
    assert!(raw.contains("task:[api::upload::handle]"), "{raw}");
    let top = pprof(&[
        "-top",
        "-cum",
        "-unit=ms",
        "-nodecount=99",
        "-nodefraction=0",
    ]);
    assert!(
        top.contains("<hyper::Body<T> as hyper::Drive>::poll"),
        "{top}"
    );
    assert!(top.contains("File: api-server"), "{top}");
    std::fs::remove_file(path).unwrap();
}

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

/// Writes the pictures of a synthetic session, to be looked at: `LOOPPROBE_PICTURES=DIR cargo test
/// -- --ignored`.
#[test]
#[ignore = "writes files for a person to look at"]
fn pictures() {
    let dir = std::path::PathBuf::from(std::env::var_os("LOOPPROBE_PICTURES").unwrap());
    let events = synthetic::session(&synthetic::polls(201));
    std::fs::write(
        dir.join("flamegraph.svg"),
        draw(Flamegraph::default(), &events),
    )
    .unwrap();
    let page = Page::default();
    write_sink(Html::new(page.clone()), &events);
    std::fs::write(dir.join("report.html"), page.0.take()).unwrap();
    std::fs::write(dir.join("speedscope.json"), draw(Speedscope, &events)).unwrap();
    std::fs::write(dir.join("profile.pb.gz"), draw(Pprof, &events)).unwrap();
}
