//! What differs between the processors of guests.

use std::path::{Path, PathBuf};

use crate::workspace;

/// What programs for another processor are built with.
#[derive(Clone, Copy)]
pub(super) struct Foreign {
    /// What loopprobe is built for: it is shipped as a static program.
    pub own: &'static str,
    /// What programs are built for that it attaches to: most use the distribution's C library.
    pub others: &'static str,
    /// The C compiler, which knows where that library is; Debian has it in `gcc-` and the
    /// processor's name.
    pub compiler: &'static str,
    /// Where the library's loader lies in a guest.
    pub loader: &'static str,
}

/// A guest's processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Architecture {
    #[value(name = "x86_64")]
    X86_64,
    Aarch64,
}

impl Architecture {
    /// The program that plays its machine.
    pub(super) fn qemu(self) -> &'static str {
        match self {
            Self::X86_64 => "qemu-system-x86_64",
            Self::Aarch64 => "qemu-system-aarch64",
        }
    }

    /// Debian's package with that program.
    pub(super) fn qemu_package(self) -> &'static str {
        match self {
            Self::X86_64 => "qemu-system-x86",
            Self::Aarch64 => "qemu-system-arm",
        }
    }

    /// What distributions call it.
    pub(super) fn distribution(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
        }
    }

    /// The kind of machine.
    pub(super) fn machine(self) -> &'static str {
        match self {
            Self::X86_64 => "q35",
            Self::Aarch64 => "virt",
        }
    }

    /// The processor that QEMU emulates.
    pub(super) fn processor(self) -> &'static str {
        match self {
            // QEMU 7.2 has been seen to double fault in the allocator's `cmpxchg16b`, which kernels
            // do without.
            Self::X86_64 => "max,-cx16",
            // Signatures of return addresses cost an emulated processor more than all else, unless
            // they are simple ones.
            Self::Aarch64 => "max,pauth-impdef=on",
        }
    }

    /// Options of QEMU for the two serial lines: the kernel's messages, and what the guest says.
    pub(super) fn lines(self, console: &Path, output: &Path) -> Vec<String> {
        let (console, output) = (console.display(), output.display());
        match self {
            Self::X86_64 => vec![
                "-serial".into(),
                format!("file:{console}"),
                "-serial".into(),
                format!("file:{output}"),
            ],
            // The machine has one line of its own.
            Self::Aarch64 => vec![
                "-serial".into(),
                format!("file:{console}"),
                "-chardev".into(),
                format!("file,id=output,path={output}"),
                "-device".into(),
                "pci-serial,chardev=output".into(),
            ],
        }
    }

    /// The same two, as the guest's kernel calls them. What the kernel does not know of its command
    /// line is in the environment of its first program.
    pub(super) fn line_names(self) -> &'static str {
        match self {
            Self::X86_64 => "console=ttyS0 OUTPUT=/dev/ttyS1 no_timer_check",
            Self::Aarch64 => "console=ttyAMA0 OUTPUT=/dev/ttyS0",
        }
    }

    /// The sessions that its guests run. Threads can be watched on x86_64 alone.
    pub(super) fn scenarios(self) -> &'static [&'static str] {
        const ALL: [&str; 8] = [
            "sleep",
            "current_thread",
            "root",
            "cpu",
            "light",
            "stripped",
            "watch",
            "auto",
        ];
        match self {
            Self::X86_64 => &ALL,
            Self::Aarch64 => &ALL[..6],
        }
    }

    /// Whether the instructions are found at which tasks are scheduled.
    pub(super) fn has_wakes(self) -> bool {
        match self {
            Self::X86_64 => true,
            Self::Aarch64 => false,
        }
    }

    /// Whether kernels have call frame information in their vDSO, which tells the time.
    pub(super) fn describes_vdso(self) -> bool {
        match self {
            Self::X86_64 => true,
            Self::Aarch64 => false,
        }
    }

    /// For what programs of its guests are built, where it is not this machine's processor.
    pub(super) fn foreign(self) -> Option<Foreign> {
        let is_own = match self {
            Self::X86_64 => cfg!(target_arch = "x86_64"),
            Self::Aarch64 => cfg!(target_arch = "aarch64"),
        };
        let foreign = match self {
            Self::X86_64 => Foreign {
                own: workspace::STATIC_TARGET,
                others: "x86_64-unknown-linux-gnu",
                compiler: "x86_64-linux-gnu-gcc",
                loader: "/lib64/ld-linux-x86-64.so.2",
            },
            Self::Aarch64 => Foreign {
                own: "aarch64-unknown-linux-musl",
                others: "aarch64-unknown-linux-gnu",
                compiler: "aarch64-linux-gnu-gcc",
                loader: "/lib/ld-linux-aarch64.so.1",
            },
        };
        (!is_own).then_some(foreign)
    }

    /// Where what its guests need lies.
    pub(super) fn folder(self) -> PathBuf {
        let all = workspace::root().join("target/vm");
        match self {
            Self::X86_64 => all,
            Self::Aarch64 => all.join("aarch64"),
        }
    }
}
