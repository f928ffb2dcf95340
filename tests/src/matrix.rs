//! Builds the target programs, with a chosen Tokio and a chosen profile.
//!
//! Each Tokio version has its own copy of the sources and its own lock file under `target/matrix`,
//! so that a second run builds nothing. The newest version is the one in the committed lock file.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{LazyLock, Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};

use crate::unprivileged;

/// A Tokio version to build with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tokio {
    /// The one in the committed lock file.
    Newest,
    /// Exactly this one.
    Exactly(&'static str),
}

/// The versions of the matrix: each of them changed something that is seen from outside (the task's
/// layout, the spawn functions, how types are instantiated), or is the last of a long-lived line.
pub const VERSIONS: [Tokio; 8] = [
    Tokio::Exactly("1.23.1"),
    Tokio::Exactly("1.28.2"),
    Tokio::Exactly("1.32.1"),
    Tokio::Exactly("1.38.2"),
    Tokio::Exactly("1.44.2"),
    Tokio::Exactly("1.47.1"),
    Tokio::Exactly("1.50.0"),
    Tokio::Newest,
];

impl fmt::Display for Tokio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Tokio::Newest => f.write_str("newest"),
            Tokio::Exactly(version) => f.write_str(version),
        }
    }
}

/// How to build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Profile {
    /// `cargo build --release`.
    Release,
    /// Fat LTO and one codegen unit.
    Fat,
    /// `panic = "abort"`.
    Abort,
    /// `opt-level = "s"`.
    Size,
    /// `debug = 1`.
    DebugInfo,
    /// `debug = 2`.
    DebugTypes,
    /// Release with v0 symbol mangling.
    V0,
    /// Release, and the linker folds identical functions. This wants LLD, which is the compiler's
    /// own default on x86-64.
    Folded,
    /// `panic = "abort"`, frame pointers, and no unwind information.
    FramePointers,
    /// The same without frame pointers.
    Bare,
    /// Release for musl, static: its C library has no unwind information. Needs `rustup target add
    /// x86_64-unknown-linux-musl`.
    Musl,
}

/// Rust's name for static programs with musl's C library.
const MUSL: &str = "x86_64-unknown-linux-musl";

/// The profiles with which every test of discovery is made.
pub const PROFILES: [Profile; 6] = [
    Profile::Release,
    Profile::Fat,
    Profile::Abort,
    Profile::Size,
    Profile::DebugInfo,
    Profile::V0,
];

impl Profile {
    /// The name in the targets' manifest.
    fn cargo_name(self) -> &'static str {
        match self {
            Profile::Release | Profile::V0 | Profile::Folded | Profile::Musl => "release",
            Profile::Fat => "fat",
            Profile::Abort | Profile::FramePointers | Profile::Bare => "abort",
            Profile::Size => "size",
            Profile::DebugInfo => "debuginfo",
            Profile::DebugTypes => "debugtypes",
        }
    }

    fn rustflags(self) -> Option<&'static str> {
        match self {
            Profile::V0 => Some("-C symbol-mangling-version=v0"),
            Profile::Folded => Some("-C link-arg=-Wl,--icf=all"),
            Profile::FramePointers => Some("-C force-frame-pointers=yes -C force-unwind-tables=no"),
            Profile::Bare => Some("-C force-frame-pointers=no -C force-unwind-tables=no"),
            _ => None,
        }
    }
}

/// One cell of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Build {
    /// With which Tokio.
    pub tokio: Tokio,
    /// How.
    pub profile: Profile,
    /// Without symbols and debug information.
    pub stripped: bool,
}

impl Build {
    /// The newest Tokio, the default release profile, symbols kept.
    pub const DEFAULT: Build = Build {
        tokio: Tokio::Newest,
        profile: Profile::Release,
        stripped: false,
    };

    /// The same without symbols.
    #[must_use]
    pub const fn stripped(self) -> Build {
        Build {
            stripped: true,
            ..self
        }
    }
}

/// The programs and libraries that can be built, by file name.
pub fn package_of(file: &str) -> &'static str {
    match file {
        "late_tokio" => "host",
        "libplugin.so" => "plugin",
        "sets" => "sets",
        "wrappers" | "libwrapped.so" => "wrapped",
        _ => "targets",
    }
}

/// Every profile with the newest Tokio, and every version with the default profile.
pub fn cells() -> impl Iterator<Item = Build> {
    let cell = |tokio, profile| Build {
        tokio,
        profile,
        stripped: false,
    };
    let profiles = PROFILES
        .into_iter()
        .map(move |profile| cell(Tokio::Newest, profile));
    let others = VERSIONS.into_iter().filter(|v| *v != Tokio::Newest);
    profiles.chain(others.map(move |version| cell(version, Profile::Release)))
}

/// The path of the target `file` (a program, or `libplugin.so`), built as `build` says, where the
/// user of the target can start it.
///
/// # Errors
/// When cargo or strip fail.
pub fn target(build: Build, file: &str) -> Result<PathBuf> {
    static BUILT: LazyLock<Mutex<HashMap<(Build, String), PathBuf>>> =
        LazyLock::new(Mutex::default);
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(path) = built.get(&(build, file.to_owned())) {
        return Ok(path.clone());
    }
    let path = make(build, file).with_context(|| format!("building {file} for {build:?}"))?;
    let path = unprivileged::reachable(path)?;
    built.insert((build, file.to_owned()), path.clone());
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

fn make(build: Build, file: &str) -> Result<PathBuf> {
    let source = sources(build.tokio)?;
    let output = source.join(match build.profile {
        Profile::V0 => "target-v0",
        Profile::Folded => "target-folded",
        Profile::FramePointers => "target-frame-pointers",
        Profile::Bare => "target-bare",
        _ => "target",
    });
    let mut cargo = Command::new("cargo");
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
    let mut cargo = Command::new("cargo");
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

/// A copy of the targets' sources whose lock file has the wanted Tokio.
fn sources(tokio: Tokio) -> Result<PathBuf> {
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
        let mut cargo = Command::new("cargo");
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
    let mut cargo = Command::new("cargo");
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
