use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

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
