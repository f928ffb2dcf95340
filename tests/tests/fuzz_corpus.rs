//! What fuzzing found and kept is survived, in time, as any toolchain builds it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use loopprobe_fuzz::{TARGETS, Target};
use loopprobe_tests::matrix;
use loopprobe_tests::privileges::place;

/// For one input. They take milliseconds; without optimisation, on a busy machine, some tenths of a
/// second.
const TIME_LIMIT: Duration = Duration::from_secs(10);

fn folder() -> PathBuf {
    matrix::root().join("fuzz")
}

/// The files in a folder, which must have some.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let files = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    ensure!(!files.is_empty(), "{} is empty", folder.display());
    Ok(files)
}

/// Gives a target its inputs in a thread of its own, so that one that hangs is noticed.
fn replay((name, run): Target) -> Result<()> {
    let files = files(&folder().join("corpus").join(name))?;
    let (done, is_done) = mpsc::channel();
    let inputs = files.clone();
    thread::spawn(move || {
        for file in inputs {
            let bytes = fs::read(&file).expect("a kept input is readable");
            run(&bytes);
            if done.send(()).is_err() {
                break;
            }
        }
    });
    for file in files {
        match is_done.recv_timeout(TIME_LIMIT) {
            Ok(()) => {}
            Err(RecvTimeoutError::Timeout) => {
                bail!("{} takes over {TIME_LIMIT:?}", file.display())
            }
            Err(RecvTimeoutError::Disconnected) => bail!("{} panics", file.display()),
        }
    }
    Ok(())
}

#[test]
fn every_kept_input_is_survived_in_time() -> Result<()> {
    let _place = place()?;
    TARGETS.into_iter().try_for_each(replay)
}

#[test]
fn every_target_has_a_program_and_a_corpus() -> Result<()> {
    let _place = place()?;
    let names: BTreeSet<_> = TARGETS
        .iter()
        .map(|(name, _)| Some((*name).into()))
        .collect();
    let programs = files(&folder().join("fuzz_targets"))?;
    let programs: BTreeSet<_> = programs
        .iter()
        .map(|path| path.file_stem().map(ToOwned::to_owned))
        .collect();
    assert_eq!(programs, names);
    let corpora = files(&folder().join("corpus"))?;
    let corpora: BTreeSet<_> = corpora
        .iter()
        .map(|path| path.file_name().map(ToOwned::to_owned))
        .collect();
    assert_eq!(corpora, names);
    Ok(())
}
