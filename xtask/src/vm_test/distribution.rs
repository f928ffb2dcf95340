//! Where kernels come from.

use std::path::Path;

use super::architecture::Architecture;

/// A kernel that a distribution offers as a package.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kernel {
    /// What it is called on the command line.
    pub name: &'static str,
    /// The part of an archive that holds it.
    pub suite: Suite,
    /// The package that depends on the newest one of its kind: the smallest that a virtual machine
    /// can use; Debian's have the processor's name behind it.
    package: &'static str,
}

/// A part of a distribution's archive.
#[derive(Clone, Copy, Debug)]
pub(super) struct Suite {
    /// Its name there.
    pub name: &'static str,
    archive: Archive,
}

#[derive(Clone, Copy, Debug)]
enum Archive {
    Debian,
    Ubuntu,
}

/// Where the rest comes from.
pub(super) const BASE: Suite = Suite::debian("trixie");
/// A shell and tools that need no library, and the keys of Ubuntu's archive, as Debian vouches for
/// them.
pub(super) const BASE_PACKAGES: [&str; 2] = ["busybox-static", "ubuntu-keyring"];

/// All that are tried, oldest first: the ends of what loopprobe supports, and in between kernels
/// that lack something.
pub(super) const KERNELS: [Kernel; 5] = [
    Kernel::ubuntu("5.15", "jammy"),
    Kernel::debian("6.1", "bookworm"),
    Kernel::ubuntu("6.8", "noble"),
    Kernel::debian("6.12", "trixie"),
    Kernel::debian("newest", "trixie-backports"),
];

impl Kernel {
    /// Whether there is one for a processor: Ubuntu keeps others than x86_64's in another archive.
    pub(super) fn is_for(&self, architecture: Architecture) -> bool {
        architecture == Architecture::X86_64 || matches!(self.suite.archive, Archive::Debian)
    }

    /// Its package for a processor.
    pub(super) fn package(&self, architecture: Architecture) -> String {
        match self.suite.archive {
            Archive::Debian => format!("{}-{}", self.package, architecture.distribution()),
            Archive::Ubuntu => self.package.to_owned(),
        }
    }

    const fn debian(name: &'static str, suite: &'static str) -> Self {
        Self {
            name,
            suite: Suite::debian(suite),
            package: "linux-image-cloud",
        }
    }

    const fn ubuntu(name: &'static str, suite: &'static str) -> Self {
        let suite = Suite {
            name: suite,
            archive: Archive::Ubuntu,
        };
        Self {
            name,
            suite,
            package: "linux-image-virtual",
        }
    }
}

impl Suite {
    const fn debian(name: &'static str) -> Self {
        Self {
            name,
            archive: Archive::Debian,
        }
    }

    /// Its line in a list of sources. `ubuntu_keys` is where the file of Ubuntu's keys lies.
    pub(super) fn source(self, architecture: Architecture, ubuntu_keys: &Path) -> String {
        let (keys, address) = match self.archive {
            Archive::Debian => (
                Path::new("/usr/share/keyrings/debian-archive-keyring.gpg"),
                "http://deb.debian.org/debian",
            ),
            Archive::Ubuntu => (ubuntu_keys, "http://archive.ubuntu.com/ubuntu"),
        };
        let (name, keys) = (self.name, keys.display());
        let architecture = architecture.distribution();
        format!("deb [arch={architecture} signed-by={keys}] {address} {name} main\n")
    }
}
