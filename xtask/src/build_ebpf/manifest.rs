//! The SHA-256 of each source and of the objects, by which a stale object shows.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::Path,
};

use anyhow::{Context as _, ensure};
use sha2::{Digest as _, Sha256};

use super::OBJECTS;
use crate::workspace::{self, source_files};

/// The crates whose sources make the objects.
const CRATES: [&str; 2] = ["loopprobe-ebpf", "loopprobe-common"];

const PACKAGE: &str = "# package ";

/// What the objects were built from, in a form that `sha256sum --check` reads.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Manifest {
    /// Hashes by path: the sources and the objects.
    files: BTreeMap<String, String>,
    /// The dependencies that end up in the objects, as `name vVERSION`.
    packages: BTreeSet<String>,
}

impl Manifest {
    /// Hashes what lies in the work tree now.
    pub(super) fn of_tree(root: &Path) -> anyhow::Result<Self> {
        let mut paths: Vec<String> = OBJECTS.iter().map(|one| one.path.to_owned()).collect();
        for name in CRATES {
            paths.extend(source_files(root, name)?);
        }
        let files = paths
            .into_iter()
            .map(|path| {
                let bytes =
                    fs::read(root.join(&path)).with_context(|| format!("cannot read {path}"))?;
                Ok((path, format!("{:x}", Sha256::digest(bytes))))
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Self {
            files,
            packages: packages(root)?,
        })
    }

    /// Reads a manifest back. Lines that are none are ignored: a missing hash shows up as a
    /// difference.
    pub(super) fn parse(text: &str) -> Self {
        let mut manifest = Self::default();
        for line in text.lines() {
            if let Some(package) = line.strip_prefix(PACKAGE) {
                manifest.packages.insert(package.to_owned());
            } else if let Some((hash, path)) = line.split_once("  ") {
                manifest.files.insert(path.to_owned(), hash.to_owned());
            }
        }
        manifest
    }

    /// Names what is not the same in another manifest.
    pub(super) fn differences(&self, other: &Self) -> Vec<String> {
        let paths: BTreeSet<_> = self.files.keys().chain(other.files.keys()).collect();
        let files = paths
            .into_iter()
            .filter(|path| self.files.get(*path) != other.files.get(*path));
        let packages = self.packages.symmetric_difference(&other.packages);
        files.chain(packages).cloned().collect()
    }

    /// The manifest's text.
    pub(super) fn to_string(&self, toolchain: &str) -> String {
        let mut text = format!(
            "# What the objects here were built from. Written by `cargo xtask build-ebpf`, checked by `--check`.\n\
             # toolchain {toolchain}\n"
        );
        for package in &self.packages {
            let _ = writeln!(text, "{PACKAGE}{package}");
        }
        for (path, hash) in &self.files {
            let _ = writeln!(text, "{hash}  {path}");
        }
        text
    }
}

/// The locked dependencies whose code ends up in the object, and the macros that generate some of
/// it.
fn packages(root: &Path) -> anyhow::Result<BTreeSet<String>> {
    let linked = tree(root, "normal,no-proc-macro")?;
    let macros = tree(root, "normal")?;
    Ok(linked
        .into_iter()
        .chain(macros.into_iter().filter(|line| line.starts_with("aya")))
        .filter(|line| !CRATES.iter().any(|name| line.starts_with(name)))
        .collect())
}

fn tree(root: &Path, edges: &str) -> anyhow::Result<Vec<String>> {
    let output = workspace::cargo()
        .args([
            "tree",
            "--locked",
            "--package",
            "loopprobe-ebpf",
            "--prefix",
            "none",
            "--no-dedupe",
        ])
        .args(["--edges", edges])
        .current_dir(root)
        .output()
        .context("cannot run cargo tree")?;
    ensure!(
        output.status.success(),
        "cargo tree: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout)?;
    let lines = text.lines().filter(|line| !line.is_empty());
    Ok(lines
        .map(|line| line.trim_end_matches(" (proc-macro)").to_owned())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Manifest {
        Manifest {
            files: [
                ("a.rs".to_owned(), "00".to_owned()),
                ("b.rs".to_owned(), "11".to_owned()),
            ]
            .into(),
            packages: ["aya-ebpf v0.2.1".to_owned()].into(),
        }
    }

    #[test]
    fn reads_back_what_it_writes() {
        assert_eq!(
            Manifest::parse(&sample().to_string("rustc 1.96.0")),
            sample()
        );
    }

    #[test]
    fn every_kind_of_change_is_a_difference() {
        let mut changed = sample();
        changed.files.insert("a.rs".to_owned(), "22".to_owned());
        assert_eq!(sample().differences(&changed), ["a.rs"]);
        changed = sample();
        changed.files.remove("b.rs");
        assert_eq!(sample().differences(&changed), ["b.rs"]);
        changed = sample();
        changed.packages.insert("num_enum v0.7.6".to_owned());
        assert_eq!(sample().differences(&changed), ["num_enum v0.7.6"]);
        assert!(sample().differences(&sample()).is_empty());
    }
}
