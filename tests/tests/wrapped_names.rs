//! What tasks are called whose futures lie in wrappers (tracing's, Tokio's and the program's own),
//! against what the program itself says of each. The wrapped futures are alike, so that their drop
//! glue is folded.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use loopprobe_tests::matrix::{self, Build, Profile, Tokio};
use loopprobe_tests::privileges::place;
use loopprobe_tests::target::Target;
use loopprobe_tests::told::{self, Pair};

const PROFILES: [Profile; 7] = [
    Profile::Release,
    Profile::Folded,
    Profile::Fat,
    Profile::Size,
    Profile::Abort,
    Profile::DebugInfo,
    Profile::V0,
];
/// The tasks are spawned at once; the machine may be busy.
const SPAWNED: Duration = Duration::from_mins(1);

fn wrappers(profile: Profile, stripped: bool) -> Result<Vec<Pair>> {
    let build = Build {
        tokio: Tokio::Newest,
        profile,
        stripped,
    };
    let program = matrix::target(build, "wrappers")?;
    let target = Target::start(&program, &[])?;
    told::pairs(target.pid(), &program, &target.head)
}

/// The same tasks in a shared object that a program without Tokio loads.
fn in_shared_object(stripped: bool) -> Result<Vec<Pair>> {
    let build = Build {
        stripped,
        ..Build::DEFAULT
    };
    let library = matrix::target(build, "libwrapped.so")?;
    let host = matrix::target(Build::DEFAULT, "late_tokio")?;
    let mut target = Target::spawn(Command::new(host).arg(&library))?;
    target.send("go")?;
    let lines = target.until("spawned", SPAWNED)?;
    told::pairs(target.pid(), &library, &lines)
}

fn certain(pairs: &[Pair]) -> usize {
    pairs.iter().filter(|pair| pair.seen.certain).count()
}

/// No certain name is wrong; prints how many names are certain, only likely, or missing.
fn check(what: &str, pairs: &[Pair]) {
    let named = pairs
        .iter()
        .filter(|pair| pair.seen.name_source != loopprobe::model::NameSource::None);
    let likely = named.filter(|pair| !pair.seen.certain).count();
    let (all, certain) = (pairs.len(), certain(pairs));
    println!(
        "{what}: {all} tasks, {certain} certain, {likely} likely, {} without a name",
        all - certain - likely
    );
    let wrong = |pair: &&Pair| pair.seen.certain && !pair.is_right();
    let wrong: Vec<_> = pairs.iter().filter(wrong).map(Pair::describe).collect();
    assert!(
        wrong.is_empty(),
        "{what}: {} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// Of the tasks with one definition, how many have it for certain, in percent.
fn recall(pairs: &[Pair]) -> usize {
    let defined: Vec<_> = pairs.iter().filter(|pair| pair.has_definition()).collect();
    let known = defined.iter().filter(|pair| pair.seen.certain).count();
    100 * known / defined.len()
}

/// Of the tasks that a library has wrapped, how many are told by what it wraps, in percent; all of
/// these must be told right.
fn content(what: &str, pairs: &[Pair]) -> usize {
    let wrapped: Vec<_> = pairs.iter().filter(|pair| pair.is_wrapped()).collect();
    let told: Vec<_> = wrapped
        .iter()
        .filter(|pair| pair.is_told_by_content())
        .collect();
    for pair in &told {
        assert!(pair.location_is_right(), "{what}: {}", pair.describe());
    }
    100 * told.len() / wrapped.len()
}

#[test]
fn what_a_library_wraps_is_told() -> Result<()> {
    let _place = place()?;
    for profile in [Profile::Release, Profile::V0, Profile::Fat] {
        for stripped in [false, true] {
            let pairs = wrappers(profile, stripped)?;
            let percent = content(&format!("{profile:?}"), &pairs);
            println!("{profile:?}, stripped {stripped}: {percent} % by content");
            assert!(percent >= 70, "{profile:?}, {stripped}: {percent} %");
        }
    }
    Ok(())
}

#[test]
fn no_certain_name_of_a_wrapped_future_is_wrong() -> Result<()> {
    let _place = place()?;
    for profile in PROFILES {
        let pairs = wrappers(profile, false)?;
        check(&format!("{profile:?}"), &pairs);
        assert!(recall(&pairs) >= 70, "{profile:?}: {} %", recall(&pairs));
    }
    Ok(())
}

#[test]
fn no_certain_place_of_a_wrapped_future_is_wrong_without_symbols() -> Result<()> {
    let _place = place()?;
    for profile in [
        Profile::Release,
        Profile::Folded,
        Profile::Fat,
        Profile::Size,
        Profile::Abort,
    ] {
        check(&format!("{profile:?}, stripped"), &wrappers(profile, true)?);
    }
    Ok(())
}

#[test]
fn a_shared_object_has_as_many_certain_names_as_a_program() -> Result<()> {
    let _place = place()?;
    for stripped in [false, true] {
        let program = wrappers(Profile::Release, stripped)?;
        let library = in_shared_object(stripped)?;
        check(&format!("shared object, stripped: {stripped}"), &library);
        let (there, here) = (certain(&library), certain(&program));
        assert!(
            there >= here,
            "{there} in the shared object, {here} in the program"
        );
    }
    Ok(())
}
