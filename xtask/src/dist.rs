//! What users install without building: a static program, and a Debian package of it.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use anyhow::{Context as _, ensure};

use crate::workspace::{self, STATIC_TARGET};

const SUBCOMMANDS: [&str; 10] = [
    "attach", "run", "ps", "inspect", "tasks", "doctor", "top", "record", "serve", "report",
];

/// What was typed for `dist`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Package this program instead of building one
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

/// Builds and packages into `target/dist`, and says what each file takes.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let built = match &args.binary {
        Some(binary) => binary.clone(),
        None => build()?,
    };
    let folder = workspace::root().join("target").join("dist");
    fs::create_dir_all(&folder)?;
    let program = folder.join("loopprobe");
    // Also what the linker has kept of C code.
    succeed(
        Command::new("strip").arg("-o").args([&program, &built]),
        "apt-get install binutils",
    )?;
    let package = debian_package(&folder, &program)?;
    for file in [&program, &package] {
        let megabytes = fs::metadata(file)?.len() as f64 / 1e6;
        println!("{megabytes:.1} MB  {}", file.display());
    }
    Ok(())
}

fn build() -> anyhow::Result<PathBuf> {
    succeed(
        Command::new("musl-gcc").arg("--version"),
        "apt-get install musl-tools",
    )?;
    workspace::ensure_static_target()?;
    let manifest = workspace::root().join("Cargo.toml");
    let status = workspace::cargo()
        .args(["build", "--locked", "--package", "loopprobe"])
        .args([
            "--profile",
            "dist",
            "--target",
            STATIC_TARGET,
            "--manifest-path",
        ])
        .arg(&manifest)
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_TARGET_DIR")
        .status()?;
    ensure!(status.success(), "the static program does not build");
    let target = manifest.with_file_name("target").join(STATIC_TARGET);
    Ok(target.join("dist").join("loopprobe"))
}

/// `loopprobe_VERSION_amd64.deb`: the program, its manual pages and completions. It depends on
/// nothing.
fn debian_package(folder: &Path, program: &Path) -> anyhow::Result<PathBuf> {
    let root = folder.join("deb");
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    let bin = root.join("usr/bin/loopprobe");
    place(&bin, &fs::read(program)?)?;
    fs::set_permissions(&bin, fs::Permissions::from_mode(0o755))?;
    let of_program = |args: &[&str]| -> anyhow::Result<Vec<u8>> {
        Ok(succeed(
            Command::new(program).args(args),
            "build it for this machine",
        )?
        .stdout)
    };
    let manual = root.join("usr/share/man/man1");
    place(&manual.join("loopprobe.1"), &of_program(&["man"])?)?;
    for command in SUBCOMMANDS {
        let page = manual.join(format!("loopprobe-{command}.1"));
        place(&page, &of_program(&["man", command])?)?;
    }
    for (shell, path) in [
        ("bash", "bash-completion/completions/loopprobe"),
        ("zsh", "zsh/vendor-completions/_loopprobe"),
        ("fish", "fish/vendor_completions.d/loopprobe.fish"),
    ] {
        let script = of_program(&["completions", shell])?;
        place(&root.join("usr/share").join(path), &script)?;
    }
    let licence = fs::read(workspace::root().join("LICENSE-MIT"))?;
    place(&root.join("usr/share/doc/loopprobe/copyright"), &licence)?;
    let version = of_program(&["--version"])?;
    let version = String::from_utf8_lossy(&version);
    let version = version.split_whitespace().last().context("no version")?;
    place(&root.join("DEBIAN/control"), control(version).as_bytes())?;
    let package = folder.join(format!("loopprobe_{version}_amd64.deb"));
    succeed(
        Command::new("dpkg-deb")
            .args(["--root-owner-group", "--build"])
            .args([&root, &package]),
        "apt-get install dpkg",
    )?;
    Ok(package)
}

fn control(version: &str) -> String {
    format!(
        "Package: loopprobe\nVersion: {version}\nArchitecture: amd64\nSection: devel\nPriority: optional\n\
         Maintainer: the loopprobe authors <loopprobe@localhost>\n\
         Description: find what blocks a running Tokio program\n \
         Attaches to an unmodified program with eBPF, times every poll of every task, and says\n \
         which task blocked its event loop, for how long, in which call, why, and what to do.\n"
    )
}

fn place(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    fs::create_dir_all(path.parent().context("a file lies in a folder")?)?;
    fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))
}

/// Runs a command; `remedy` is what mends its absence.
fn succeed(command: &mut Command, remedy: &str) -> anyhow::Result<Output> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .with_context(|| format!("cannot run {name}: {remedy}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name} failed: {said}");
    Ok(output)
}
