//! Coverage-guided fuzzing of everything that others write and loopprobe reads.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, ensure};

use crate::workspace;

/// What installs what is needed.
const HELP: &str = "fuzzing needs a nightly toolchain and cargo-fuzz:
    rustup toolchain install nightly
    cargo install cargo-fuzz";
/// A kept input takes milliseconds; ten seconds fail the replay in the test suite.
const TIMEOUT_SECONDS: u32 = 30;
/// With the sanitizer's own memory.
const MEMORY_LIMIT_MB: u32 = 3000;

/// What was typed for `fuzz`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The targets, by the names of the files in fuzz/fuzz_targets; all if none is named
    targets: Vec<String>,
    /// How long each target is fuzzed
    #[arg(long, default_value_t = 60)]
    seconds: u32,
}

/// Fuzzes one target after the other, and fails with the first that fails. What is found beside the
/// kept inputs lies in `fuzz/target/corpus`.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let root = workspace::root();
    let known = targets(&root.join("fuzz/fuzz_targets"))?;
    for target in &args.targets {
        ensure!(
            known.contains(target),
            "there is no target {target}, but {}",
            known.join(", ")
        );
    }
    ensure!(
        cargo_fuzz(&root, &["--version"])
            .output()
            .is_ok_and(|output| output.status.success()),
        HELP
    );
    let chosen = if args.targets.is_empty() {
        &known
    } else {
        &args.targets
    };
    for target in chosen {
        fuzz(&root, target, args.seconds)?;
    }
    Ok(())
}

/// The names of the targets, in order.
fn targets(folder: &Path) -> anyhow::Result<Vec<String>> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        names.extend(name.strip_suffix(".rs").map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

fn fuzz(root: &Path, target: &str, seconds: u32) -> anyhow::Result<()> {
    // libFuzzer writes what it finds into the first folder, and only reads the others.
    let found = root.join("fuzz/target/corpus").join(target);
    fs::create_dir_all(&found).with_context(|| format!("cannot create {}", found.display()))?;
    println!("fuzzing {target} for {seconds} seconds");
    // In release mode the manifest says which crates' sums are checked.
    let status = cargo_fuzz(root, &["run", "--release", target])
        .arg(&found)
        .arg(root.join("fuzz/corpus").join(target))
        .arg("--")
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={TIMEOUT_SECONDS}"))
        .arg(format!("-rss_limit_mb={MEMORY_LIMIT_MB}"))
        .arg("-print_final_stats=1")
        .status()?;
    ensure!(
        status.success(),
        "{target} fails; the input lies in fuzz/artifacts/{target}"
    );
    Ok(())
}

/// Through rustup: the cargo that runs this may be a toolchain's own, which knows no `+nightly`.
fn cargo_fuzz(root: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("rustup");
    command
        .args(["run", "nightly", "cargo", "fuzz"])
        .args(args)
        .current_dir(root);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_is_known_by_its_file() {
        let names = targets(&workspace::root().join("fuzz/fuzz_targets")).unwrap();
        assert!(names.contains(&"image".to_owned()), "{names:?}");
        assert!(names.is_sorted());
    }
}
