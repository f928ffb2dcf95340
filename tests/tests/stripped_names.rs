//! What a stripped program's tasks are called, against what the program itself says of each task.

use anyhow::Result;
use loopprobe::runtime::tokio::Scheduler;
use loopprobe_tests::matrix::{self, Build, Profile, Tokio};
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

#[test]
fn stripped_async_tasks_are_named_by_their_definition_boxed_ones_too() -> Result<()> {
    for tokio in VERSIONS {
        for profile in [Profile::Release, Profile::Fat, Profile::Size] {
            let pairs = zoo(build(tokio, profile))?;
            let defined: Vec<_> = pairs.iter().filter(|pair| pair.has_definition()).collect();
            assert!(
                defined.len() >= 28,
                "{tokio} {profile:?}: {}",
                defined.len()
            );
            for pair in defined {
                assert!(
                    pair.location_is_right() && pair.seen.certain,
                    "{tokio} {profile:?}: {}",
                    pair.describe()
                );
            }
        }
    }
    Ok(())
}

#[test]
fn futures_without_a_definition_get_none() -> Result<()> {
    for profile in [Profile::Release, Profile::Fat, Profile::Size] {
        let pairs = zoo(build(Tokio::Newest, profile))?;
        let others = pairs.iter().filter(|pair| !pair.has_definition());
        let mut count = 0;
        for pair in others {
            assert!(
                pair.seen.location.is_none(),
                "{profile:?}: {}",
                pair.describe()
            );
            count += 1;
        }
        assert!(
            count >= 4,
            "two hand-written futures on each of two runtimes"
        );
    }
    Ok(())
}

#[test]
fn with_panic_abort_nothing_wrong_is_certain() -> Result<()> {
    for tokio in VERSIONS {
        let pairs = zoo(build(tokio, Profile::Abort))?;
        let defined: Vec<_> = pairs.iter().filter(|pair| pair.has_definition()).collect();
        for pair in &defined {
            let wrong = pair.seen.certain && !pair.location_is_right();
            assert!(!wrong, "{tokio}: {}", pair.describe());
        }
        // Only `never`, which does not return, embeds no panic: one in fifteen.
        let right = defined
            .iter()
            .filter(|pair| pair.location_is_right())
            .count();
        assert!(
            right * 10 >= defined.len() * 9,
            "{tokio}: {right} of {}",
            defined.len()
        );
    }
    Ok(())
}

#[test]
fn the_scheduler_is_known_without_symbols() -> Result<()> {
    for tokio in VERSIONS {
        for profile in [
            Profile::Release,
            Profile::Fat,
            Profile::Size,
            Profile::Abort,
        ] {
            for pair in zoo(build(tokio, profile))? {
                let expected = match pair.truth["runtime"].as_str() {
                    Some("multi_thread") => Scheduler::MultiThread,
                    Some("current_thread") => Scheduler::CurrentThread,
                    Some("local") => Scheduler::Local,
                    _ => Scheduler::Blocking,
                };
                assert_eq!(
                    pair.scheduler,
                    expected.word(),
                    "{tokio} {profile:?}: {}",
                    pair.truth
                );
            }
        }
    }
    Ok(())
}
