//! Why the kernel side could not be set up, with the verifier's last words where it refused.

use std::{io, path::PathBuf};

use aya::programs::ProgramError;
use thiserror::Error;

/// Why the kernel side could not be set up.
#[derive(Debug, Error)]
pub enum AttachError {
    /// The kernel does not describe its types.
    #[error(
        "cannot read the kernel's type information in /sys/kernel/btf/vmlinux: {0}; \
         loopprobe needs a kernel built with CONFIG_DEBUG_INFO_BTF"
    )]
    Btf(#[source] io::Error),
    /// The kernel's type information lacks something.
    #[error("the kernel's type information has no {0}")]
    BtfMissing(&'static str),
    /// The programs or maps could not be loaded.
    #[error("cannot load the eBPF programs: {0}")]
    Load(#[from] aya::EbpfError),
    /// A program is missing or could not be loaded.
    #[error("cannot load the eBPF program {program}: {source}")]
    Program {
        /// Its name.
        program: &'static str,
        /// Why.
        #[source]
        source: aya::programs::ProgramError,
    },
    /// A map could not be used.
    #[error("cannot use the eBPF map {map}: {source}")]
    Map {
        /// Its name.
        map: &'static str,
        /// Why.
        #[source]
        source: aya::maps::MapError,
    },
    /// The object that is built into loopprobe does not hold what it should.
    #[error("the built-in eBPF object is damaged: {0}")]
    Object(String),
    /// The kernel refused a program.
    #[error("the kernel refused the eBPF program {program}: {source}\n{log}")]
    Verifier {
        /// Its name.
        program: &'static str,
        /// What bpf(2) gave.
        #[source]
        source: io::Error,
        /// The verifier's last words.
        log: String,
    },
    /// There is no thread or descriptor left for what empties the ring buffers.
    #[error("cannot take what the eBPF programs send: {0}")]
    Thread(#[source] io::Error),
    /// The threads' registers could not be read.
    #[error("cannot read the registers of the process's threads: {0}")]
    Registers(#[source] io::Error),
    /// The probes could not be placed.
    #[error("cannot place {} in {}: {source}{}", probes(.count), .path.display(), why(.source))]
    Probe {
        /// The file, as the kernel names it.
        path: PathBuf,
        /// How many.
        count: usize,
        /// What bpf(2) or perf_event_open(2) gave.
        #[source]
        source: io::Error,
    },
}

fn probes(count: &usize) -> String {
    format!("{count} probe{}", if *count == 1 { "" } else { "s" })
}

/// What lies behind an error, and what to do.
fn why(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        // A page with a breakpoint is a copy, charged to the process's group (`__replace_page` and
        // `uprobe_write` in `kernel/events/uprobes.c`).
        Some(libc::ENOMEM) => {
            "; the kernel copies each page that gets a probe, and counts the copy as the process's memory: its control group \
             may be at its limit (memory.max). Raise that a little, or use --mode watch, which places no probe"
        }
        _ => "",
    }
}

impl AttachError {
    /// Whether privileges are missing.
    pub fn is_permission(&self) -> bool {
        if self.is_refusal() {
            return false;
        }
        let mut source: Option<&dyn std::error::Error> = Some(self);
        while let Some(error) = source {
            if let Some(error) = error.downcast_ref::<io::Error>()
                && matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES))
            {
                return true;
            }
            source = error.source();
        }
        false
    }

    /// Whether the verifier has looked at a program and refused it: it gives `EACCES` too, but also
    /// its reasons.
    fn is_refusal(&self) -> bool {
        match self {
            Self::Verifier { log, .. } => !log.is_empty(),
            Self::Program {
                source: ProgramError::LoadError { verifier_log, .. },
                ..
            } => !verifier_log.to_string().is_empty(),
            _ => false,
        }
    }
}
