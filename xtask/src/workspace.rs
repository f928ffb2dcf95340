use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};

/// The workspace's folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the workspace")
        .to_owned()
}

/// The Rust sources and the manifest of a crate, as paths from the workspace's folder, sorted.
pub fn source_files(root: &Path, krate: &str) -> anyhow::Result<Vec<String>> {
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

/// Builds a package for release, and returns the folder with its programs. The manifest is a path from the workspace's folder.
pub fn build(manifest: &str, package: &str) -> anyhow::Result<PathBuf> {
    let manifest = root().join(manifest);
    eprintln!("building {package}");
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--release", "--locked"])
        .args(["--package", package, "--manifest-path"])
        .arg(&manifest)
        // As a user would build it, whatever this task was run with.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_TARGET_DIR")
        .status()?;
    ensure!(status.success(), "{package} does not build");
    Ok(manifest.with_file_name("target").join("release"))
}
