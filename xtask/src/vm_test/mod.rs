//! Runs loopprobe on other kernels than this machine's, in QEMU, and compares what it says with the
//! target's own truth.

mod distribution;
mod initramfs;
mod machine;
mod output;
mod packages;
mod verdict;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context as _, bail, ensure};

use self::{
    distribution::{BASE, BASE_PACKAGES, KERNELS, Kernel},
    initramfs::Initramfs,
    output::Output,
    packages::Packages,
};
use crate::workspace;

/// What was typed for `vm-test`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which kernels: 5.15, 6.1, 6.8, 6.12, newest; all by default
    kernels: Vec<String>,
    /// Let the processor run the guest instead of emulating it, where /dev/kvm works
    #[arg(long)]
    kvm: bool,
}

/// Fetches what is not in `target/vm` yet, boots each kernel, and judges.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let kernels = chosen(&args.kernels)?;
    machine::check()?;
    let folder = workspace::root().join("target/vm");
    let base = base(&folder)?;
    let initramfs = folder.join("initramfs");
    build_initramfs(&base, &initramfs)?;
    let mut bad = 0;
    for kernel in kernels {
        let folder = folder.join(kernel.name);
        let begin = Instant::now();
        let image = image(kernel, &base, &folder)?;
        let failures = match machine::run(&image, &initramfs, &folder, args.kvm)
            .and_then(|text| Output::parse(&text))
        {
            Ok(output) => report(&output),
            Err(error) => vec![format!("{error:#}")],
        };
        let word = if failures.is_empty() { "ok" } else { "FAILED" };
        println!("{}: {word}, {}s", kernel.name, begin.elapsed().as_secs());
        for failure in &failures {
            println!("    {failure}");
        }
        bad += usize::from(!failures.is_empty());
    }
    ensure!(bad == 0, "loopprobe fails on {bad} kernels");
    Ok(())
}

fn chosen(names: &[String]) -> anyhow::Result<Vec<&'static Kernel>> {
    if names.is_empty() {
        return Ok(KERNELS.iter().collect());
    }
    let find = |name: &String| {
        KERNELS
            .iter()
            .find(|kernel| kernel.name == name)
            .with_context(|| format!("no kernel {name}; see --help"))
    };
    names.iter().map(find).collect()
}

/// Prints what the guest found out, and returns what is wrong.
fn report(output: &Output) -> Vec<String> {
    println!("Linux {}", output.text("release"));
    for line in output.text("doctor").lines() {
        println!("    {line}");
    }
    verdict::failures(output)
}

/// The folder with what every guest needs, fetched if it is not there.
fn base(folder: &Path) -> anyhow::Result<PathBuf> {
    let files = folder.join("base/files");
    if !files.join("bin/busybox").is_file() && !files.join("usr/bin/busybox").is_file() {
        let packages = Packages::list(BASE, Path::new(""), folder.join("base"))?;
        packages.unpack(&BASE_PACKAGES.map(str::to_owned), &files)?;
    }
    Ok(files)
}

/// A kernel's image, fetched if it is not there.
fn image(kernel: &Kernel, base: &Path, folder: &Path) -> anyhow::Result<PathBuf> {
    let files = folder.join("files");
    if let Some(image) = find_image(&files) {
        return Ok(image);
    }
    eprintln!("fetching Linux {} ({})", kernel.name, kernel.suite.name);
    let keys = base.join("usr/share/keyrings/ubuntu-archive-keyring.gpg");
    let packages = Packages::list(kernel.suite, &keys, folder.to_owned())?;
    packages.unpack(&packages.images(kernel.package)?, &files)?;
    find_image(&files).with_context(|| format!("no kernel in {}", files.display()))
}

/// `/boot/vmlinuz-VERSION` or `/usr/lib/modules/VERSION/vmlinuz`.
fn find_image(files: &Path) -> Option<PathBuf> {
    let modules = fs::read_dir(files.join("usr/lib/modules"));
    let modules = modules.into_iter().flatten().filter_map(Result::ok);
    let boot = fs::read_dir(files.join("boot"));
    let boot = boot.into_iter().flatten().filter_map(Result::ok);
    boot.map(|entry| entry.path())
        .chain(modules.map(|entry| entry.path().join("vmlinuz")))
        .find(|path| {
            let name = path.file_name().unwrap_or_default();
            name.to_string_lossy().starts_with("vmlinuz") && path.is_file()
        })
}

fn build_initramfs(base: &Path, path: &Path) -> anyhow::Result<()> {
    let loopprobe = workspace::build("Cargo.toml", "loopprobe")?;
    let targets = workspace::build("tests/targets/Cargo.toml", "targets")?;
    let mut initramfs = Initramfs::create(path)?;
    for folder in ["/proc", "/sys", "/dev", "/tmp"] {
        initramfs.folder(Path::new(folder))?;
    }
    let busybox = ["bin/busybox", "usr/bin/busybox"].map(|path| base.join(path));
    let Some(busybox) = busybox.into_iter().find(|path| path.is_file()) else {
        bail!("no busybox in {}", base.display());
    };
    initramfs.file(Path::new("/bin/busybox"), &fs::read(busybox)?)?;
    initramfs.file(Path::new("/init"), include_bytes!("init.sh"))?;
    initramfs.program(&loopprobe.join("loopprobe"))?;
    for target in ["truth", "stuck"] {
        initramfs.program(&targets.join(target))?;
    }
    initramfs.finish()?;
    Ok(())
}
