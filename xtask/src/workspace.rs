//! Where the workspace lies, what sources a crate has, and how a package is built for release.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail, ensure};

/// The workspace's folder.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the workspace")
        .to_owned()
}

/// Rust's name for static programs, with musl's C library: one file runs on every distribution.
pub(crate) const STATIC_TARGET: &str = "x86_64-unknown-linux-musl";

/// Has the standard library there that static programs are built with.
///
/// # Errors
/// If it is missing and rustup cannot bring it.
pub(crate) fn ensure_static_target() -> anyhow::Result<()> {
    ensure_target(STATIC_TARGET)
}

/// The same of another target.
fn ensure_target(target: &str) -> anyhow::Result<()> {
    let output = Command::new("rustc").args(["--print", "sysroot"]).output();
    let sysroot = output.context("rustc does not run")?.stdout;
    let sysroot = PathBuf::from(String::from_utf8_lossy(&sysroot).trim());
    if sysroot.join("lib/rustlib").join(target).exists() {
        return Ok(());
    }
    let added = Command::new("rustup")
        .args(["target", "add", target])
        .status();
    ensure!(
        added.is_ok_and(|status| status.success()),
        "no library for {target}, and rustup cannot bring it: rustup target add {target}"
    );
    Ok(())
}

/// The cargo that runs this, without what it has told this program of its own package ("Environment
/// Variables" in the Cargo book): to the build scripts of dependencies that would be a change, and
/// they would be built again each time.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    let of_package =
        |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(of_package) {
            cargo.env_remove(name);
        }
    }
    cargo
}

/// The Rust sources and the manifest of a crate, as paths from the workspace's folder, sorted.
pub(crate) fn source_files(root: &Path, krate: &str) -> anyhow::Result<Vec<String>> {
    let mut files = vec![format!("{krate}/Cargo.toml")];
    let mut folders = vec![format!("{krate}/src")];
    while let Some(folder) = folders.pop() {
        let entries =
            fs::read_dir(root.join(&folder)).with_context(|| format!("cannot read {folder}"))?;
        for entry in entries {
            let entry = entry?;
            let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
            if entry.file_type()?.is_dir() {
                folders.push(path);
            } else if path.ends_with(".rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Builds programs of a package for release for another processor. What is C in it is built with
/// `compiler`, which links it too; static programs are linked by Rust's own linker.
pub(crate) fn build_for(
    target: &str,
    compiler: &str,
    manifest: &str,
    package: &str,
    programs: &[&str],
) -> anyhow::Result<PathBuf> {
    ensure_target(target)?;
    let manifest = root().join(manifest);
    let linker = match target.ends_with("musl") {
        true => "rust-lld",
        false => compiler,
    };
    let upper = target.to_uppercase().replace('-', "_");
    let lower = target.replace('-', "_");
    let status = cargo()
        .args(["build", "--release", "--locked", "--target", target])
        .args(["--package", package, "--manifest-path"])
        .arg(&manifest)
        .args(programs.iter().flat_map(|program| ["--bin", program]))
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_TARGET_DIR")
        .env(format!("CARGO_TARGET_{upper}_LINKER"), linker)
        .env(format!("CC_{lower}"), compiler)
        .status()?;
    ensure!(
        status.success(),
        "{package} does not build for {target}; is {compiler} there? On Debian: apt-get install gcc-aarch64-linux-gnu"
    );
    let built = manifest.with_file_name("target").join(target);
    Ok(built.join("release"))
}

/// Builds a package for release, and returns the folder with its programs. The manifest is a path
/// from the workspace's folder. cargo shows its progress.
pub(crate) fn build(manifest: &str, package: &str) -> anyhow::Result<PathBuf> {
    build_with(manifest, package, &[])
}

/// The same, with settings of the release profile: `("DEBUG", "line-tables-only")`.
pub(crate) fn build_with(
    manifest: &str,
    package: &str,
    profile: &[(&str, &str)],
) -> anyhow::Result<PathBuf> {
    let manifest = root().join(manifest);
    let settings = profile
        .iter()
        .map(|(key, value)| (format!("CARGO_PROFILE_RELEASE_{key}"), value));
    let status = cargo()
        .args(["build", "--release", "--locked"])
        .args(["--package", package, "--manifest-path"])
        .arg(&manifest)
        // As a user would build it, whatever this task was run with.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_TARGET_DIR")
        .envs(settings)
        .status()?;
    ensure!(status.success(), "{package} does not build");
    Ok(manifest.with_file_name("target").join("release"))
}

/// `llvm-strip` under any of the names that distributions give it.
pub(crate) fn strip_program() -> anyhow::Result<PathBuf> {
    let versioned = (14..=30)
        .rev()
        .map(|version| format!("llvm-strip-{version}"));
    let names: Vec<String> = std::iter::once("llvm-strip".to_owned())
        .chain(versioned)
        .collect();
    let folders: Vec<PathBuf> =
        env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect();
    let found = names
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .find(|path| path.is_file());
    let Some(found) = found else {
        bail!("llvm-strip is not on PATH; on Debian: apt-get install llvm");
    };
    Ok(found)
}
