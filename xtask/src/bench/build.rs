//! Builds what is measured, for release: loopprobe, targets, and the web service.

use std::path::{Path, PathBuf};

use anyhow::ensure;

use super::progress;
use crate::workspace;

/// loopprobe itself, for release.
pub(super) fn loopprobe() -> anyhow::Result<PathBuf> {
    cargo("Cargo.toml", "target", "", &["--package", "loopprobe"])?;
    Ok(release("target", "loopprobe"))
}

/// A program of the tests' crate, for release.
pub(super) fn tool(name: &str) -> anyhow::Result<PathBuf> {
    let args = ["--package", "loopprobe-tests", "--bin", name];
    cargo("Cargo.toml", "target", "", &args)?;
    Ok(release("target", name))
}

/// A target program of the tests.
pub(super) fn target(name: &str) -> anyhow::Result<PathBuf> {
    const FOLDER: &str = "target/bench/targets";
    cargo("tests/targets/Cargo.toml", FOLDER, "", &["--bin", name])?;
    Ok(release(FOLDER, name))
}

/// The web service, as it is, or rebuilt for tokio-console.
pub(super) fn service(with_console: bool) -> anyhow::Result<PathBuf> {
    let (folder, flags, args): (_, _, &[&str]) = if with_console {
        (
            "target/bench/console",
            "--cfg tokio_unstable",
            &["--features", "console"],
        )
    } else {
        ("target/bench/service", "", &[])
    };
    cargo("tests/service/Cargo.toml", folder, flags, args)?;
    Ok(release(folder, "service"))
}

fn release(folder: &str, name: &str) -> PathBuf {
    let folder: &Path = folder.as_ref();
    workspace::root().join(folder).join("release").join(name)
}

fn cargo(manifest: &str, folder: &str, flags: &str, args: &[&str]) -> anyhow::Result<()> {
    progress(&format!("building {manifest} {}", args.join(" ")));
    let root = workspace::root();
    let status = workspace::cargo()
        .args(["build", "--quiet", "--release", "--locked"])
        .arg("--manifest-path")
        .arg(root.join(manifest))
        .arg("--target-dir")
        .arg(root.join(folder))
        .args(args)
        // As a user would build it, whatever this task was run with.
        .env("RUSTFLAGS", flags)
        .current_dir(root)
        .status()?;
    ensure!(status.success(), "{manifest} does not build");
    Ok(())
}
