//! Runs loopprobe on other kernels than this machine's, in QEMU, and compares what it says with the
//! target's own truth.

mod architecture;
mod distribution;
mod initramfs;
mod machine;
mod output;
mod packages;
mod verdict;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context as _, bail, ensure};

use self::{
    architecture::{Architecture, Foreign},
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
    /// The guest's processor; aarch64 has Debian's kernels
    #[arg(long, value_enum, default_value_t = Architecture::X86_64)]
    arch: Architecture,
    /// Let the processor run the guest instead of emulating it, where /dev/kvm works
    #[arg(long)]
    kvm: bool,
    /// Boot nothing: judge again what the last guests printed
    #[arg(long)]
    again: bool,
}

/// Fetches what is not in `target/vm` yet, boots each kernel, and judges.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let kernels = chosen(&args.kernels, args.arch)?;
    let folder = args.arch.folder();
    let guest = match args.again {
        true => None,
        false => Some(Guest::prepare(args, &folder)?),
    };
    let mut bad = 0;
    for kernel in kernels {
        let folder = folder.join(kernel.name);
        let begin = Instant::now();
        let said = match &guest {
            Some(guest) => guest.run(kernel, &folder)?,
            None => machine::said(&folder),
        };
        let failures = match said.and_then(|text| Output::parse(&text)) {
            Ok(output) => report(args.arch, &output),
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

/// What every guest gets.
struct Guest<'a> {
    args: &'a Args,
    base: PathBuf,
    initramfs: PathBuf,
}

impl<'a> Guest<'a> {
    fn prepare(args: &'a Args, folder: &Path) -> anyhow::Result<Self> {
        machine::check(args.arch)?;
        let base = base(args.arch, folder)?;
        let initramfs = folder.join("initramfs");
        build_initramfs(args.arch, &base, &initramfs)?;
        Ok(Self {
            args,
            base,
            initramfs,
        })
    }

    /// Boots a kernel, fetched if it is not in `folder`; what the guest said, or why it did not.
    fn run(&self, kernel: &Kernel, folder: &Path) -> anyhow::Result<anyhow::Result<String>> {
        let Args { arch, kvm, .. } = *self.args;
        let image = image(arch, kernel, &self.base, folder)?;
        Ok(machine::run(arch, &image, &self.initramfs, folder, kvm))
    }
}

fn chosen(names: &[String], architecture: Architecture) -> anyhow::Result<Vec<&'static Kernel>> {
    let there_are = || KERNELS.iter().filter(|kernel| kernel.is_for(architecture));
    if names.is_empty() {
        return Ok(there_are().collect());
    }
    let find = |name: &String| {
        there_are()
            .find(|kernel| kernel.name == name)
            .with_context(|| format!("no kernel {name}; see --help"))
    };
    names.iter().map(find).collect()
}

/// Prints what the guest found out, and returns what is wrong.
fn report(architecture: Architecture, output: &Output) -> Vec<String> {
    println!("Linux {}", output.text("release"));
    for line in output.text("doctor").lines() {
        println!("    {line}");
    }
    verdict::failures(architecture, output)
}

/// The folder with what every guest needs, fetched if it is not there.
fn base(architecture: Architecture, folder: &Path) -> anyhow::Result<PathBuf> {
    let files = folder.join("base/files");
    if !files.join("bin/busybox").is_file() && !files.join("usr/bin/busybox").is_file() {
        let folder = folder.join("base");
        let packages = Packages::list(architecture, BASE, Path::new(""), folder)?;
        packages.unpack(&BASE_PACKAGES.map(str::to_owned), &files)?;
    }
    Ok(files)
}

/// A kernel's image, fetched if it is not there.
fn image(
    architecture: Architecture,
    kernel: &Kernel,
    base: &Path,
    folder: &Path,
) -> anyhow::Result<PathBuf> {
    let files = folder.join("files");
    if let Some(image) = find_image(&files) {
        return Ok(image);
    }
    eprintln!("fetching Linux {} ({})", kernel.name, kernel.suite.name);
    let keys = base.join("usr/share/keyrings/ubuntu-archive-keyring.gpg");
    let packages = Packages::list(architecture, kernel.suite, &keys, folder.to_owned())?;
    packages.unpack(&packages.images(&kernel.package(architecture))?, &files)?;
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

fn build_initramfs(architecture: Architecture, base: &Path, path: &Path) -> anyhow::Result<()> {
    let (loopprobe, targets) = programs(architecture.foreign())?;
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
    let loopprobe = loopprobe.join("loopprobe");
    let [truth, stuck] = ["truth", "stuck"].map(|name| targets.join(name));
    for program in [&loopprobe, &truth, &stripped(&truth)?, &stuck] {
        initramfs.program(program)?;
        if architecture.foreign().is_none() {
            initramfs.libraries(program)?;
        }
    }
    if let Some(Foreign {
        compiler, loader, ..
    }) = architecture.foreign()
    {
        initramfs.foreign_library(compiler, loader)?;
    }
    initramfs.finish()?;
    Ok(())
}

/// Builds loopprobe and what it attaches to; the folders that they lie in.
fn programs(foreign: Option<Foreign>) -> anyhow::Result<(PathBuf, PathBuf)> {
    const OWN: (&str, &str) = ("Cargo.toml", "loopprobe");
    const OTHERS: (&str, &str) = ("tests/targets/Cargo.toml", "targets");
    let Some(foreign) = foreign else {
        let build = |(manifest, package)| workspace::build(manifest, package);
        return Ok((build(OWN)?, build(OTHERS)?));
    };
    let build = |target, (manifest, package), programs: &[&str]| {
        workspace::build_for(target, foreign.compiler, manifest, package, programs)
    };
    let own = build(foreign.own, OWN, &["loopprobe"])?;
    let others = build(foreign.others, OTHERS, &["truth", "stuck"])?;
    Ok((own, others))
}

/// The same program without symbols, beside it.
fn stripped(program: &Path) -> anyhow::Result<PathBuf> {
    let mut name = program.file_name().unwrap_or_default().to_owned();
    name.push("-stripped");
    let to = program.with_file_name(name);
    let strip = workspace::strip_program()?;
    let status = Command::new(&strip).arg("-o").args([&to, program]).status();
    let is_done = status.is_ok_and(|status| status.success());
    ensure!(is_done, "{} failed", strip.display());
    Ok(to)
}
