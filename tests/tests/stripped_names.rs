//! What a stripped program's tasks are called, against what the program itself says of each task.

use std::path::{Path, PathBuf};

use anyhow::Result;
use loopprobe::runtime::tokio::Scheduler;
use loopprobe_tests::matrix::{self, Build, Profile, Tokio};
use loopprobe_tests::privileges::place;
use loopprobe_tests::target::Target;
use loopprobe_tests::told::{self, Pair};

const VERSIONS: [Tokio; 3] = [
    Tokio::Exactly("1.28.2"),
    Tokio::Exactly("1.44.2"),
    Tokio::Newest,
];

/// Starts the zoo and pairs each of its tasks with what loopprobe calls it.
fn zoo(build: Build) -> Result<Vec<Pair>> {
    let program = matrix::target(build.stripped(), "zoo")?;
    let target = Target::start(&program, &[])?;
    let pairs = told::pairs(target.pid(), &program, &target.head)?;
    assert!(pairs.iter().all(|pair| pair.stripped));
    Ok(pairs)
}

fn build(tokio: Tokio, profile: Profile) -> Build {
    Build {
        tokio,
        profile,
        stripped: true,
    }
}

/// Each property on each version's zoo: finding out what its tasks are called is what takes long.
fn check(profile: Profile, properties: &[fn(&str, &[Pair])]) -> Result<()> {
    for tokio in VERSIONS {
        let pairs = zoo(build(tokio, profile))?;
        let cell = format!("{tokio} {profile:?}");
        for holds in properties {
            holds(&cell, &pairs);
        }
    }
    Ok(())
}

fn async_tasks_are_named_by_their_definition_boxed_ones_too(cell: &str, pairs: &[Pair]) {
    let defined: Vec<_> = pairs.iter().filter(|pair| pair.has_definition()).collect();
    assert!(defined.len() >= 28, "{cell}: {}", defined.len());
    for pair in defined {
        let is_named = pair.location_is_right() && pair.seen.certain;
        assert!(is_named, "{cell}: {}", pair.describe());
    }
}

fn futures_without_a_definition_get_none(cell: &str, pairs: &[Pair]) {
    let others = pairs.iter().filter(|pair| !pair.has_definition());
    let mut count = 0;
    for pair in others {
        assert!(pair.seen.location.is_none(), "{cell}: {}", pair.describe());
        count += 1;
    }
    assert!(
        count >= 4,
        "{cell}: two hand-written futures on each of two runtimes"
    );
}

fn nothing_wrong_is_certain(cell: &str, pairs: &[Pair]) {
    let defined: Vec<_> = pairs.iter().filter(|pair| pair.has_definition()).collect();
    for pair in &defined {
        let wrong = pair.seen.certain && !pair.location_is_right();
        assert!(!wrong, "{cell}: {}", pair.describe());
    }
    // Only `never`, which does not return, embeds no panic: one in fifteen.
    let right = defined.iter().filter(|pair| pair.location_is_right());
    let (right, all) = (right.count(), defined.len());
    assert!(right * 10 >= all * 9, "{cell}: {right} of {all}");
}

fn the_scheduler_is_known(cell: &str, pairs: &[Pair]) {
    for pair in pairs {
        let expected = match pair.truth["runtime"].as_str() {
            Some("multi_thread") => Scheduler::MultiThread,
            Some("current_thread") => Scheduler::CurrentThread,
            Some("local") => Scheduler::Local,
            _ => Scheduler::Blocking,
        };
        assert_eq!(pair.scheduler, expected.word(), "{cell}: {}", pair.truth);
    }
}

/// What holds wherever panics unwind.
const NAMED: [fn(&str, &[Pair]); 3] = [
    async_tasks_are_named_by_their_definition_boxed_ones_too,
    futures_without_a_definition_get_none,
    the_scheduler_is_known,
];

#[test]
fn stripped_release_builds_have_names() -> Result<()> {
    let _place = place()?;
    check(Profile::Release, &NAMED)
}

#[test]
fn stripped_builds_with_fat_lto_have_names() -> Result<()> {
    let _place = place()?;
    check(Profile::Fat, &NAMED)
}

#[test]
fn stripped_builds_for_size_have_names() -> Result<()> {
    let _place = place()?;
    check(Profile::Size, &NAMED)
}

#[test]
fn with_panic_abort_nothing_wrong_is_certain() -> Result<()> {
    let _place = place()?;
    check(
        Profile::Abort,
        &[nothing_wrong_is_certain, the_scheduler_is_known],
    )
}

/// A copy of a program that says nothing of its functions: `.eh_frame` is found through a program
/// header, which is made one that means nothing.
fn without_eh_frame(program: &Path) -> Result<PathBuf> {
    const PT_GNU_EH_FRAME: u32 = 0x6474_e550;
    let mut bytes = std::fs::read(program)?;
    let number = |bytes: &[u8], at: usize, len: usize| {
        let field = bytes[at..at + len].iter().rev();
        field.fold(0usize, |number, byte| number << 8 | usize::from(*byte))
    };
    // `e_phoff`, `e_phentsize` and `e_phnum` of `Elf64_Ehdr`.
    let (first, size) = (number(&bytes, 0x20, 8), number(&bytes, 0x36, 2));
    let headers = (0..number(&bytes, 0x38, 2)).map(|index| first + index * size);
    let kind = PT_GNU_EH_FRAME as usize;
    let found = headers
        .filter(|at| number(&bytes, *at, 4) == kind)
        .collect::<Vec<_>>();
    for at in &found {
        bytes[*at..at + 4].fill(0);
    }
    anyhow::ensure!(found.len() == 1, "{found:?}");
    let copy = program.with_extension("no-eh-frame");
    // Another test may be running it.
    let _ = std::fs::remove_file(&copy);
    std::fs::copy(program, &copy)?;
    std::fs::write(&copy, bytes)?;
    Ok(copy)
}

#[test]
fn without_eh_frame_tasks_are_named_too_and_nothing_wrong_is_certain() -> Result<()> {
    let _place = place()?;
    for profile in [Profile::Release, Profile::Fat, Profile::Size, Profile::Bare] {
        let program = matrix::target(build(Tokio::Newest, profile), "zoo")?;
        let program = match profile {
            Profile::Bare => program,
            _ => without_eh_frame(&program)?,
        };
        let target = Target::start(&program, &[])?;
        let pairs = told::pairs(target.pid(), &program, &target.head)?;
        let (defined, others): (Vec<_>, Vec<_>) =
            pairs.iter().partition(|pair| pair.has_definition());
        for pair in &defined {
            let wrong = pair.seen.certain && !pair.location_is_right();
            assert!(!wrong, "{profile:?}: {}", pair.describe());
        }
        for pair in others {
            assert!(!pair.seen.certain, "{profile:?}: {}", pair.describe());
        }
        let right = defined.iter().filter(|pair| pair.location_is_right());
        let (right, all) = (right.count(), defined.len());
        println!("{profile:?}: {right} of {all} named");
        assert!(right * 10 >= all * 9, "{profile:?}: {right} of {all}");
    }
    Ok(())
}
