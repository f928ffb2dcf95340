//! Builds the target programs, as a cell of the matrix says, and loopprobe.
//!
//! Each Tokio version has its own copy of the sources and its own lock file under `target/matrix`,
//! so that a second run builds nothing. The newest version is the one in the committed lock file.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};

use crate::matrix::{Build, Profile, Tokio, package_of};
use crate::unprivileged;

/// Rust's name for static programs with musl's C library.
const MUSL: &str = "x86_64-unknown-linux-musl";

/// The path of the target `file` (a program, or `libplugin.so`), built as `build` says, where the
/// user of the target can start it.
///
/// # Errors
/// When cargo or strip fail.
pub fn target(build: Build, file: &str) -> Result<PathBuf> {
    /// The path, once it is built.
    type Place = Arc<Mutex<Option<PathBuf>>>;
    static BUILT: LazyLock<Mutex<HashMap<(Build, String), Place>>> = LazyLock::new(Mutex::default);
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let place = Arc::clone(built.entry((build, file.to_owned())).or_default());
    drop(built);
    // Others are built meanwhile.
    let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(path) = place.as_ref() {
        return Ok(path.clone());
    }
    let path = make(build, file).with_context(|| format!("building {file} for {build:?}"))?;
    let path = unprivileged::reachable(path)?;
    *place = Some(path.clone());
    Ok(path)
}

/// The repository's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests are a member of the workspace")
}

/// Where this workspace builds to.
pub fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// cargo, without what it has told this program of its own package: to the build scripts of
/// dependencies that would be a change, and they would be built again ("Environment Variables" in
/// the Cargo book).
fn cargo() -> Command {
    let mut cargo = Command::new("cargo");
    let of_package =
        |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(of_package) {
            cargo.env_remove(name);
        }
    }
    cargo
}

fn make(build: Build, file: &str) -> Result<PathBuf> {
    let source = sources(build.tokio)?;
    let output = source.join(match build.profile {
        Profile::V0 => "target-v0",
        Profile::Folded => "target-folded",
        Profile::FramePointers => "target-frame-pointers",
        Profile::Bare => "target-bare",
        _ => "target",
    });
    let mut cargo = cargo();
    cargo
        .current_dir(&source)
        .args([
            "build",
            "--quiet",
            "--locked",
            "--package",
            package_of(file),
        ])
        .args(["--profile", build.profile.cargo_name()])
        .env("CARGO_TARGET_DIR", &output)
        .env_remove("RUSTFLAGS");
    if file.ends_with(".so") {
        cargo.arg("--lib");
    } else {
        cargo.args(["--bin", file]);
    }
    if let Some(flags) = build.profile.rustflags() {
        cargo.env("RUSTFLAGS", flags);
    }
    let mut built = output.clone();
    if build.profile == Profile::Musl {
        cargo.args(["--target", MUSL]);
        built.push(MUSL);
    }
    run(&mut cargo)?;
    built.extend([build.profile.cargo_name(), file]);
    if matches!(build.profile, Profile::FramePointers | Profile::Bare) {
        built = without_tables(&built)?;
    }
    if build.stripped {
        strip(&built)
    } else {
        Ok(built)
    }
}

/// The path of a program that runs the tests of the package `name`, built for release.
///
/// # Errors
/// When cargo fails.
pub fn test_program(name: &str) -> Result<PathBuf> {
    let source = sources(Tokio::Newest)?;
    let mut cargo = cargo();
    cargo
        .current_dir(&source)
        .args(["test", "--no-run", "--quiet", "--locked", "--release"])
        .args(["--package", name, "--test", name])
        .args(["--message-format", "json"])
        .env("CARGO_TARGET_DIR", source.join("target"))
        .env_remove("RUSTFLAGS");
    let output = cargo.output()?;
    ensure!(
        output.status.success(),
        "{cargo:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let lines = String::from_utf8(output.stdout)?;
    let mut messages = lines
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let program = messages
        .find(|message| message["target"]["name"] == name && message["executable"].is_string())
        .with_context(|| format!("cargo says of no program for {name}"))?;
    let program = program["executable"].as_str().unwrap_or_default();
    unprivileged::reachable(program.into())
}

/// A copy of `built` without symbols, in a directory `stripped` beside it.
fn strip(built: &Path) -> Result<PathBuf> {
    let directory = built.with_file_name("stripped");
    fs::create_dir_all(&directory)?;
    let stripped = directory.join(built.file_name().context("a file")?);
    if modified(&stripped) < modified(built) {
        run(Command::new("strip").arg("-o").arg(&stripped).arg(built))?;
    }
    Ok(stripped)
}

/// A copy of `built` without unwind information, in a directory `unguided` beside it.
fn without_tables(built: &Path) -> Result<PathBuf> {
    let directory = built.with_file_name("unguided");
    fs::create_dir_all(&directory)?;
    let copy = directory.join(built.file_name().context("a file")?);
    if modified(&copy) < modified(built) {
        let mut objcopy = Command::new("objcopy");
        for section in [".eh_frame", ".eh_frame_hdr", ".gcc_except_table"] {
            objcopy.args(["--remove-section", section]);
        }
        run(objcopy.arg(built).arg(&copy))?;
    }
    Ok(copy)
}

fn modified(path: &Path) -> Option<std::time::SystemTime> {
    fs::metadata(path).and_then(|data| data.modified()).ok()
}

fn run(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("running {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// A copy of the targets' sources whose lock file has the wanted Tokio. One is made at a time.
fn sources(tokio: Tokio) -> Result<PathBuf> {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let original = root().join("tests/targets");
    let copy = target_dir().join(format!("matrix/tokio-{tokio}"));
    mirror(&original, &copy)?;
    let base = fs::read_to_string(original.join("Cargo.lock"))?;
    let (lock, kept_base) = (copy.join("Cargo.lock"), copy.join("Cargo.lock.base"));
    if fs::read_to_string(&kept_base).is_ok_and(|kept| kept == base) {
        return Ok(copy);
    }
    fs::write(&lock, &base)?;
    if let Tokio::Exactly(version) = tokio {
        let mut cargo = cargo();
        cargo.current_dir(&copy).args([
            "update",
            "--quiet",
            "--package",
            "tokio",
            "--precise",
            version,
        ]);
        run(&mut cargo)?;
    }
    fs::write(&kept_base, &base)?;
    Ok(copy)
}

/// Copies manifests and sources, and touches no file that is the same already.
fn mirror(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let name = path.file_name().context("an entry has a name")?;
        if path.is_dir() {
            if name == OsStr::new("src") {
                remove_gone(&path, &to.join(name))?;
            }
            if name != OsStr::new("target") {
                mirror(&path, &to.join(name))?;
            }
        } else if name != OsStr::new("Cargo.lock") {
            let text = fs::read(&path)?;
            if fs::read(to.join(name)).ok().as_deref() != Some(&text) {
                fs::write(to.join(name), text)?;
            }
        }
    }
    Ok(())
}

/// Removes sources that are gone: they would be programs of their own to cargo.
fn remove_gone(from: &Path, to: &Path) -> Result<()> {
    if !to.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(to)? {
        let path = entry?.path();
        let original = from.join(path.file_name().context("an entry has a name")?);
        if path.is_dir() && original.is_dir() {
            remove_gone(&original, &path)?;
        } else if path.is_dir() {
            fs::remove_dir_all(path)?;
        } else if !original.is_file() {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// The path of loopprobe itself, built for release; the variable `LOOPPROBE` names another one to
/// test. See [`unprivileged`] for the variable that makes it one for an ordinary user.
///
/// # Errors
/// When cargo fails.
pub fn loopprobe() -> Result<PathBuf> {
    static INSTALLED: Mutex<Option<PathBuf>> = Mutex::new(None);
    let built = privileged_loopprobe()?;
    if !unprivileged::wanted() {
        return Ok(built);
    }
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(path) = installed.as_ref() {
        return Ok(path.clone());
    }
    let path = unprivileged::install(&built, "loopprobe", unprivileged::CAPABILITIES)?;
    *installed = Some(path.clone());
    Ok(path)
}

/// The same, whatever the variable for ordinary users says.
///
/// # Errors
/// When cargo fails.
pub fn privileged_loopprobe() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("LOOPPROBE") {
        return Ok(path.into());
    }
    static BUILT: Mutex<Option<PathBuf>> = Mutex::new(None);
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(path) = built.as_ref() {
        return Ok(path.clone());
    }
    let mut cargo = cargo();
    cargo.current_dir(root()).args([
        "build",
        "--quiet",
        "--locked",
        "--release",
        "--package",
        "loopprobe",
    ]);
    run(&mut cargo)?;
    let path = target_dir().join("release/loopprobe");
    if !path.is_file() {
        bail!("cargo built no {}", path.display());
    }
    *built = Some(path.clone());
    Ok(path)
}
