//! Which call is to blame.

use super::*;

#[test]
fn what_an_interpreter_does_below_the_blamed_call_is_a_callbacks() {
    let guest = |name: &str, address| Frame {
        role: Role::CPython,
        address,
        ..frame(name, true)
    };
    let mut found = blocked(&["clock_nanosleep"], libc::SYS_clock_nanosleep, None, 9);
    let native = diagnosis(found.clone());
    assert!(native.advice.starts_with("use tokio::time::sleep"));
    let inner = [
        guest("time_sleep", None),
        guest("py::nap:/app/x.py", Some(0x1000)),
    ];
    found.stack.frames.splice(1..1, inner);
    let called = diagnosis(found.clone());
    assert!(called.advice.starts_with("an interpreter runs here"));
    assert_eq!(called.evidence["guest"], "py::nap:/app/x.py");
    assert_eq!(called.call.expect("a call").function, "app::helper");
    // What Python has called is no callback.
    found.stack.frames.insert(1, frame("app::native", false));
    let native = diagnosis(found);
    assert!(native.advice.starts_with("use tokio::time::sleep"));
    assert_eq!(native.evidence.get("guest"), None);
}

#[test]
fn samples_of_one_function_are_one_call() {
    let mut stacks = vec![on_cpu(&[], 4), on_cpu(&[], 4), on_cpu(&[], 5)];
    stacks[2].stack.frames[0].function = Some("app::other".to_owned());
    let found = diagnose(&PollEvidence {
        stacks,
        ..PollEvidence::default()
    });
    assert_eq!(found.cause, Cause::Cpu);
    assert_eq!(found.call.expect("a call").function, "app::helper");
}

#[test]
fn a_stripped_stack_blames_the_deepest_frame_that_says_where_it_is_from() {
    let nameless = |offset, definition: Option<&str>| Frame {
        module: Some("/opt/app".to_owned()),
        offset: Some(offset),
        async_body: definition.is_some(),
        role: definition.map_or(Role::Unknown, |_| Role::Own),
        definition: definition.map(|file| SourceLocation {
            file: file.to_owned(),
            line: 7,
            column: None,
        }),
        ..Frame::default()
    };
    let mut found = blocked(&[], libc::SYS_nanosleep, None, 1);
    found.stack.frames = vec![
        frame("clock_nanosleep", true),
        nameless(0x10, None),
        nameless(0x20, Some("src/a.rs")),
        nameless(0x30, Some("src/b.rs")),
    ];
    let call = diagnosis(found.clone()).call.expect("a call");
    assert_eq!(call.function, "app+0x20");
    assert_eq!(call.location.expect("a place").file, "src/a.rs");
    // A plain function inside the body, as its unwind information tells it apart.
    found.stack.frames[1].function_offset = Some(0x8);
    assert_eq!(diagnosis(found).call.expect("a call").function, "app+0x8");
}

#[test]
fn samples_in_several_nameless_functions_blame_what_calls_them_all() {
    // An allocator's functions below one of the program's own.
    let stacks = vec![
        nameless(&[0x900, 0x400], 40),
        nameless(&[0x800, 0x850, 0x400], 35),
        nameless(&[0x400], 25),
    ];
    assert_eq!(called(stacks), Some("app+0x400".to_owned()));
    // One function that computes is blamed itself, a stray sample or not.
    let stacks = vec![nameless(&[0x900, 0x400], 95), nameless(&[0x400], 5)];
    assert_eq!(called(stacks), Some("app+0x900".to_owned()));
    // Where nothing is shared but the async body, it is the body.
    let stacks = vec![nameless(&[0x900], 50), nameless(&[0x800], 50)];
    assert_eq!(called(stacks), Some("app+0x1".to_owned()));
}

#[test]
fn where_a_walk_broke_off_a_function_of_which_nothing_is_known_is_not_to_blame() {
    let call = |outcome, frames: Vec<Frame>| {
        let mut found = on_cpu(&[], 9);
        found.stack.frames = frames;
        found.stack.outcome = outcome;
        diagnose(&PollEvidence {
            split: Some(Split {
                on_cpu_ns: 9,
                ..Split::default()
            }),
            stacks: vec![found],
            ..PollEvidence::default()
        })
        .call
    };
    let assembly = Frame {
        module: Some("/opt/app".to_owned()),
        function_offset: Some(0x1230),
        ..Frame::default()
    };
    for outcome in [Outcome::NoUnwindInfo, Outcome::Truncated] {
        assert_eq!(call(outcome, vec![assembly.clone()]), None);
    }
    // On a stack that is not the thread's, the walk ends where that begins.
    let own = call(Outcome::OtherStack, vec![assembly.clone()]);
    assert_eq!(own.expect("a call").function, "app+0x1230");
    let named = frame("app::helper", false);
    let known = call(Outcome::NoUnwindInfo, vec![assembly, named]);
    assert_eq!(known.expect("a call").function, "app::helper");
}
