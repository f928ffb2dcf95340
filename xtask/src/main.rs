//! Tasks for people who work on loopprobe: `cargo xtask --help`.

mod bench;
mod build_ebpf;
mod demo;
mod dist;
mod fuzz;
mod privileged;
mod test;
mod vm_test;
mod wheels;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Tasks for people who work on loopprobe.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Measure what loopprobe costs, against other tools, in one run
    Bench(bench::Args),
    /// Build the kernel side from source into loopprobe/bpf, once a processor, with its manifest
    BuildEbpf(build_ebpf::Args),
    /// Show loopprobe at work on a small web service, and end
    Demo(demo::Args),
    /// Build what users install: a static program and a .deb, in target/dist
    Dist(dist::Args),
    /// Fuzz everything that others write and loopprobe reads
    Fuzz(fuzz::Args),
    /// Run every test, with sudo where needed
    Test(test::Args),
    /// Run loopprobe on older and newer kernels, in QEMU
    VmTest(vm_test::Args),
    /// Compare what `inspect` tells of PyPI's packages for two processors; fetches them
    Wheels,
}

fn main() -> ExitCode {
    match run(Cli::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> anyhow::Result<()> {
    match task {
        Task::Bench(args) => bench::run(&args),
        Task::BuildEbpf(args) => build_ebpf::run(&args),
        Task::Demo(args) => demo::run(&args),
        Task::Dist(args) => dist::run(&args),
        Task::Fuzz(args) => fuzz::run(&args),
        Task::Test(args) => test::run(&args),
        Task::VmTest(args) => vm_test::run(&args),
        Task::Wheels => wheels::run(),
    }
}
