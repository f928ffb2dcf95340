//! Files that are given to be read, and are of no use.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use loopprobe_tests::{
    matrix::{Build, loopprobe, target},
    scenario::gated,
    take_machine,
};

use crate::{expect, folder, run};

#[test]
fn a_truncated_elf_is_an_error_that_names_the_file() -> Result<()> {
    let whole = fs::read(target(Build::DEFAULT, "truth")?)?;
    let path = folder("truncated")?.join("half");
    for length in [0, 3, 63, 64, 500, whole.len() / 2] {
        fs::write(&path, &whole[..length])?;
        let output = run(&["inspect", &path.display().to_string()])?;
        expect(&output, 1, &["half"]).with_context(|| format!("cut to {length} bytes"))?;
    }
    Ok(())
}

#[test]
fn a_debug_file_of_another_program_is_refused() -> Result<()> {
    take_machine!();
    let target = gated(Build::DEFAULT, "truth", &["sleep"])?;
    let pid = target.pid().to_string();
    let other = loopprobe()?.display().to_string();
    let words = [other.as_str(), "of no use"];
    for command in [
        &["attach", "--duration", "1s", "--pid", &pid][..],
        &["inspect", "--pid", &pid],
    ] {
        let args = [command, &["--debug-file", &other]].concat();
        expect(&run(&args)?, 1, &words)?;
    }
    let output = run(&["run", "--debug-file", &other, "--", "true"])?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(
        text.contains(&other) && text.contains("of no use"),
        "{text}"
    );
    Ok(())
}
