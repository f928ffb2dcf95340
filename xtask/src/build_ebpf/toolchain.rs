//! Finds a Rust compiler with its library's sources, which the eBPF target's `core` needs.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::bail;

/// A compiler that can build its own `core`: rustc, the cargo beside it, and library sources of the
/// very same version.
pub(super) struct Toolchain {
    /// The compiler.
    pub rustc: PathBuf,
    /// Its cargo.
    pub cargo: PathBuf,
    /// Where the library's sources are.
    pub library: PathBuf,
    /// For people: versions of the compiler and the linker.
    pub description: String,
}

const ADVICE: &str = "\
no Rust toolchain here has the sources of its own library, which the eBPF target needs. Any one of these brings them:
    rustup toolchain install nightly --component rust-src
    apt-get install rustc-web cargo-web rust-web-src        (Debian)";

impl Toolchain {
    /// Finds one: a rustup nightly, another rustup toolchain, or the system's.
    pub(super) fn find() -> anyhow::Result<Self> {
        let linker = first_line("bpf-linker", &["--version"]);
        let Some(linker) = linker else {
            bail!(
                "bpf-linker is not on PATH; install it with: cargo install bpf-linker@0.10.3 --locked"
            );
        };
        let Some(mut found) = candidates().iter().find_map(|folder| Self::at(folder)) else {
            bail!(ADVICE);
        };
        found.description = format!("{}, {linker}", found.description);
        Ok(found)
    }

    fn at(bin: &Path) -> Option<Self> {
        let (rustc, cargo) = (bin.join("rustc"), bin.join("cargo"));
        let sysroot = first_line(&rustc, &["--print", "sysroot"])?;
        let library = Path::new(&sysroot).join("lib/rustlib/src/rust/library");
        let complete = cargo.is_file() && library.join("core/src/lib.rs").is_file();
        complete.then(|| Self {
            description: first_line(&rustc, &["--version"]).unwrap_or_default(),
            rustc,
            cargo,
            library,
        })
    }
}

/// Folders that may hold `rustc` and `cargo`, best first. rustup's own proxies are left out: they
/// choose by folder.
fn candidates() -> Vec<PathBuf> {
    let rustup = env::var_os("RUSTUP_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".rustup")));
    let mut toolchains: Vec<PathBuf> = rustup
        .and_then(|home| home.join("toolchains").read_dir().ok())
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("bin"))
        .collect();
    toolchains.sort_by_key(|path| (!path.to_string_lossy().contains("nightly"), path.clone()));
    toolchains.extend(["/usr/local/bin", "/usr/bin"].map(PathBuf::from));
    toolchains
}

fn first_line(program: impl AsRef<Path>, args: &[&str]) -> Option<String> {
    let output = Command::new(program.as_ref()).args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output
        .status
        .success()
        .then(|| text.lines().next().map(str::to_owned))
        .flatten()
}
