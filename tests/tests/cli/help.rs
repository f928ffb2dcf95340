//! What helps to type a command: help, completions, manual pages.

use anyhow::{Context as _, Result, ensure};

use crate::run;

#[test]
fn completions_and_manual_pages_are_complete() -> Result<()> {
    for shell in ["bash", "zsh", "fish"] {
        let output = run(&["completions", shell])?;
        let script = String::from_utf8_lossy(&output.stdout);
        ensure!(
            script.contains("fail-over") && script.contains("doctor"),
            "{shell}"
        );
    }
    let page = run(&["man", "attach"])?.stdout;
    ensure!(
        String::from_utf8_lossy(&page).contains("fail\\-over"),
        "the page lacks an option"
    );
    Ok(())
}

#[test]
fn help_begins_with_what_most_need() -> Result<()> {
    let help = String::from_utf8(run(&["attach", "--help"])?.stdout)?;
    let words = [
        "Options:",
        "--pid",
        "--threshold",
        "--verbose",
        "Views:",
        "--flamegraph",
        "Measuring:",
        "--sample-hz",
        "Options of every command:",
        "--log-level",
    ];
    let mut rest = help.as_str();
    for word in words {
        let at = rest
            .find(word)
            .with_context(|| format!("{word} is not behind the one before it in:\n{help}"))?;
        rest = &rest[at..];
    }
    Ok(())
}
