//! Shared objects that others have built and stripped, the same versions for two processors: what
//! their tasks are called must not depend on the processor.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use crate::workspace;

/// Packages of PyPI with a Tokio program in them.
const PACKAGES: [&str; 3] = ["granian==2.8.9", "robyn==0.88.0", "deltalake==1.6.6"];
/// The names that such packages have for a processor, newest first.
const SYSTEMS: [&str; 3] = ["manylinux_2_28", "manylinux2014", "manylinux_2_17"];
/// How many of a hundred definitions that name tasks for certain on x86_64 must do so on aarch64:
/// what is inlined where is the compiler's choice, processor by processor.
const LEAST: usize = 80;

/// What one shared object tells.
struct Told {
    sites: usize,
    versions: Value,
    /// Where tasks are defined: file, line and column.
    certain: BTreeSet<Place>,
    /// The same, and of those that are only hints.
    all: BTreeSet<Place>,
}

type Place = (String, u64, u64);

/// Fetches what is not in `target/wheels` yet, and compares.
pub(crate) fn run() -> anyhow::Result<()> {
    let loopprobe = workspace::build("Cargo.toml", "loopprobe")?.join("loopprobe");
    let mut wrong = Vec::new();
    for package in PACKAGES {
        let x86_64 = inspect(&loopprobe, &shared_object(package, "x86_64")?)?;
        let aarch64 = inspect(&loopprobe, &shared_object(package, "aarch64")?)?;
        let same = aarch64.certain.intersection(&x86_64.certain).count();
        let unknown: Vec<&Place> = aarch64.certain.difference(&x86_64.all).collect();
        println!(
            "{package}: Tokio {}; aarch64 {} sites, x86_64 {}; definitions that are certain: {} and {}, {same} the same; only on aarch64: {}",
            aarch64.versions,
            aarch64.sites,
            x86_64.sites,
            aarch64.certain.len(),
            x86_64.certain.len(),
            unknown.len(),
        );
        for (file, line, column) in &unknown {
            println!("    {file}:{line}:{column}");
        }
        if aarch64.versions != x86_64.versions {
            wrong.push(format!("{package}: another Tokio: {}", x86_64.versions));
        }
        if same * 100 < x86_64.certain.len() * LEAST {
            wrong.push(format!("{package}: too few definitions are the same"));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// The shared object of a package, fetched if it is not there.
fn shared_object(package: &str, processor: &str) -> anyhow::Result<PathBuf> {
    let folder = workspace::root()
        .join("target/wheels")
        .join(processor)
        .join(package.replace("==", "-"));
    if let Some(found) = find(&folder) {
        return Ok(found);
    }
    fs::create_dir_all(&folder)?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--quiet", "--no-deps"])
        .args(["--only-binary", ":all:", package, "--dest"])
        .arg(&folder);
    for system in SYSTEMS {
        pip.arg("--platform").arg(format!("{system}_{processor}"));
    }
    done(&mut pip)?;
    let wheels = fs::read_dir(&folder)?.filter_map(Result::ok);
    for wheel in wheels.filter(|entry| entry.path().extension().is_some_and(|end| end == "whl")) {
        let mut unpack = Command::new("python3");
        unpack.args(["-m", "zipfile", "-e"]).arg(wheel.path());
        done(unpack.arg(&folder))?;
        fs::remove_file(wheel.path())?;
    }
    find(&folder).with_context(|| format!("no shared object in {}", folder.display()))
}

fn done(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().context("cannot run python3")?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}

/// The largest shared object below a folder.
fn find(folder: &Path) -> Option<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).ok()?.filter_map(Result::ok) {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "so") {
                found.push((entry.metadata().ok()?.len(), path));
            }
        }
    }
    found.into_iter().max().map(|(_, path)| path)
}

fn inspect(loopprobe: &Path, file: &Path) -> anyhow::Result<Told> {
    let output = Command::new(loopprobe)
        .args(["inspect", "--format", "json", "--no-cache"])
        .arg(file)
        .output()?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr));
    }
    let told: Value = serde_json::from_slice(&output.stdout)?;
    let file = &told["files"][0];
    let sites = file["sites"].as_array().context("no sites")?;
    let place = |site: &Value| {
        let file = site["file"].as_str()?.to_owned();
        Some((file, site["line"].as_u64()?, site["column"].as_u64()?))
    };
    let is_certain = |site: &&Value| site["certain"] == true;
    Ok(Told {
        sites: sites.len(),
        versions: file["tokio"].clone(),
        certain: sites.iter().filter(is_certain).filter_map(place).collect(),
        all: sites.iter().filter_map(place).collect(),
    })
}
