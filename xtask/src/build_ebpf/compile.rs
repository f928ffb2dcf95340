//! Runs cargo for `bpfel-unknown-none` and strips the object of debug information.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};

use super::{Object, toolchain::Toolchain};
use crate::workspace;

/// Loads everywhere that aya does: little-endian, as all supported machines are.
const TARGET: &str = "bpfel-unknown-none";

/// Compiles the eBPF crate for one processor and gives the stripped object.
pub(super) fn object(
    root: &Path,
    toolchain: &Toolchain,
    object: &Object,
) -> anyhow::Result<Vec<u8>> {
    let target_dir = root.join("target").join(object.folder);
    let status = Command::new(&toolchain.cargo)
        .args([
            "build",
            "--release",
            "--locked",
            "--package",
            "loopprobe-ebpf",
        ])
        .args(["-Z", "build-std=core", "--target", TARGET])
        .arg("--target-dir")
        .arg(&target_dir)
        .current_dir(root)
        .env("RUSTC", &toolchain.rustc)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags(root, toolchain, object))
        .env("CARGO_PROFILE_RELEASE_DEBUG", "none")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
        // A developer's own cargo settings must not change what the verifier sees.
        .env("CARGO_INCREMENTAL", "0")
        .env("CARGO_PROFILE_RELEASE_INCREMENTAL", "false")
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "3")
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        // Settings of the toolchain that runs this task must not reach the other one.
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("RUSTFLAGS")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("CARGO_TARGET_DIR")
        .status()
        .with_context(|| format!("cannot run {}", toolchain.cargo.display()))?;
    ensure!(status.success(), "the eBPF crate did not compile");
    let built = target_dir.join(TARGET).join("release/loopprobe-ebpf");
    stripped(&built)
}

/// The processor; and this machine's folders are kept out of the object: the kernel side's log
/// records carry file names.
fn flags(root: &Path, toolchain: &Toolchain, object: &Object) -> OsString {
    let cargo_home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")));
    let mut prefixes = vec![
        (root.to_owned(), "loopprobe"),
        (toolchain.library.clone(), "library"),
    ];
    prefixes.extend(cargo_home.map(|home| (home, "cargo")));
    let architecture = object
        .architecture
        .map(|name| format!("--cfg=bpf_target_arch=\"{name}\"").into());
    let prefixes = prefixes.into_iter().map(|(from, to)| {
        let mut flag = OsString::from("--remap-path-prefix=");
        flag.push(from);
        flag.push("=/");
        flag.push(to);
        flag
    });
    let flags: Vec<OsString> = prefixes.chain(architecture).collect();
    // Cargo's separator between encoded flags.
    flags.join(std::ffi::OsStr::new("\x1f"))
}

/// Drops debug information, which no loader needs and which would make the committed file large.
fn stripped(built: &Path) -> anyhow::Result<Vec<u8>> {
    let out = built.with_extension("stripped");
    let strip = workspace::strip_program()?;
    let status = Command::new(&strip)
        .arg("-g")
        .arg("-o")
        .args([&out, built])
        .status()?;
    ensure!(status.success(), "{} failed", strip.display());
    fs::read(&out).with_context(|| format!("cannot read {}", out.display()))
}
