//! Builds the kernel side, once a processor. The objects are committed, because users have a stable
//! Rust and no eBPF toolchain; their manifest proves that they belong to the sources beside it.

mod compile;
mod manifest;
mod toolchain;

use std::{
    fs,
    panic::resume_unwind,
    thread::{self, ScopedJoinHandle},
};

use anyhow::{Context as _, bail};

use self::{manifest::Manifest, toolchain::Toolchain};
use crate::workspace;

/// An object for one processor.
struct Object {
    /// Where it lies, from the workspace's folder.
    path: &'static str,
    /// The processor by the name that aya-ebpf and the kernel side's `arch` know; `None` for their
    /// default, x86_64.
    architecture: Option<&'static str>,
    /// The folder below `target` that it is built in.
    folder: &'static str,
}

const OBJECTS: [Object; 2] = [
    Object {
        path: "loopprobe/bpf/loopprobe.bpf.o",
        architecture: None,
        folder: "ebpf",
    },
    Object {
        path: "loopprobe/bpf/loopprobe.aarch64.bpf.o",
        architecture: Some("aarch64"),
        folder: "ebpf-aarch64",
    },
];
/// Where their manifest lies.
const MANIFEST: &str = "loopprobe/bpf/loopprobe.bpf.manifest";

/// What was typed for `build-ebpf`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Build nothing; fail if an object does not belong to the sources
    #[arg(long)]
    check: bool,
}

/// Builds or checks the objects.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if args.check { check() } else { build() }
}

fn build() -> anyhow::Result<()> {
    let root = workspace::root();
    let toolchain = Toolchain::find()?;
    eprintln!("building with {}", toolchain.description);
    // Most of each is one crate, `core`, on one processor.
    let built = thread::scope(|scope| {
        let (root, toolchain) = (&root, &toolchain);
        let build = |object| scope.spawn(move || compile::object(root, toolchain, object));
        let builds: Vec<_> = OBJECTS.iter().map(build).collect();
        builds
            .into_iter()
            .map(join)
            .collect::<anyhow::Result<Vec<_>>>()
    })?;
    for (object, built) in OBJECTS.iter().zip(built) {
        let path = root.join(object.path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&path, &built).with_context(|| format!("cannot write {}", path.display()))?;
        eprintln!("wrote {} ({} bytes)", object.path, built.len());
    }
    let manifest = Manifest::of_tree(&root)?.to_string(&toolchain.description);
    fs::write(root.join(MANIFEST), manifest)?;
    Ok(())
}

fn join<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
}

/// Fails if a committed object does not belong to the sources beside it.
pub(crate) fn check() -> anyhow::Result<()> {
    let root = workspace::root();
    let path = root.join(MANIFEST);
    let committed = fs::read_to_string(&path).with_context(|| {
        format!(
            "cannot read {}; run `cargo xtask build-ebpf`",
            path.display()
        )
    })?;
    let differences = Manifest::parse(&committed).differences(&Manifest::of_tree(&root)?);
    if differences.is_empty() {
        for object in &OBJECTS {
            eprintln!("{} belongs to its sources", object.path);
        }
        return Ok(());
    }
    bail!(
        "the kernel side's objects are stale: {} changed; run `cargo xtask build-ebpf` and commit what it wrote",
        differences.join(", ")
    );
}
