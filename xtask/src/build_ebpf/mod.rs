//! Builds the kernel side. The object is committed, because users have a stable Rust and no eBPF
//! toolchain; its manifest proves that it belongs to the sources beside it.

mod compile;
mod manifest;
mod toolchain;

use std::fs;

use anyhow::{Context as _, bail};

use self::{manifest::Manifest, toolchain::Toolchain};
use crate::workspace;

/// Where the object lies, from the workspace's folder.
const OBJECT: &str = "loopprobe/bpf/loopprobe.bpf.o";
/// Where its manifest lies.
const MANIFEST: &str = "loopprobe/bpf/loopprobe.bpf.manifest";

/// What was typed for `build-ebpf`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Build nothing; fail if the object does not belong to the sources
    #[arg(long)]
    check: bool,
}

/// Builds or checks the object.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if args.check { check() } else { build() }
}

fn build() -> anyhow::Result<()> {
    let root = workspace::root();
    let toolchain = Toolchain::find()?;
    eprintln!("building with {}", toolchain.description);
    let built = compile::object(&root, &toolchain)?;
    let object = root.join(OBJECT);
    if let Some(folder) = object.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(&object, &built).with_context(|| format!("cannot write {}", object.display()))?;
    let manifest = Manifest::of_tree(&root)?.to_string(&toolchain.description);
    fs::write(root.join(MANIFEST), manifest)?;
    eprintln!("wrote {OBJECT} ({} bytes) and its manifest", built.len());
    Ok(())
}

/// Fails if the committed object does not belong to the sources beside it.
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
        eprintln!("{OBJECT} belongs to its sources");
        return Ok(());
    }
    bail!(
        "{OBJECT} is stale: {} changed; run `cargo xtask build-ebpf` and commit both files",
        differences.join(", ")
    );
}
