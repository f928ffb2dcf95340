//! The matrix of target programs: which Tokio, and which profile.

use std::fmt;

pub use crate::toolchain::{
    loopprobe, privileged_loopprobe, root, target, target_dir, test_program,
};

/// A Tokio version to build with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tokio {
    /// The one in the committed lock file.
    Newest,
    /// Exactly this one.
    Exactly(&'static str),
}

/// The versions of the matrix: each of them changed something that is seen from outside (the task's
/// layout, the spawn functions, how types are instantiated), or is the last of a long-lived line.
pub const VERSIONS: [Tokio; 8] = [
    Tokio::Exactly("1.23.1"),
    Tokio::Exactly("1.28.2"),
    Tokio::Exactly("1.32.1"),
    Tokio::Exactly("1.38.2"),
    Tokio::Exactly("1.44.2"),
    Tokio::Exactly("1.47.1"),
    Tokio::Exactly("1.50.0"),
    Tokio::Newest,
];

impl fmt::Display for Tokio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Tokio::Newest => f.write_str("newest"),
            Tokio::Exactly(version) => f.write_str(version),
        }
    }
}

/// How to build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Profile {
    /// `cargo build --release`.
    Release,
    /// Fat LTO and one codegen unit.
    Fat,
    /// `panic = "abort"`.
    Abort,
    /// `opt-level = "s"`.
    Size,
    /// `debug = 1`.
    DebugInfo,
    /// `debug = 2`.
    DebugTypes,
    /// Release with v0 symbol mangling.
    V0,
    /// Release, and the linker folds identical functions. This wants LLD, which is the compiler's
    /// own default on x86-64.
    Folded,
    /// `panic = "abort"`, frame pointers, and no unwind information.
    FramePointers,
    /// The same without frame pointers.
    Bare,
    /// Release for musl, static: its C library has no unwind information. Needs `rustup target add
    /// x86_64-unknown-linux-musl`.
    Musl,
}

/// The profiles with which every test of discovery is made.
pub const PROFILES: [Profile; 6] = [
    Profile::Release,
    Profile::Fat,
    Profile::Abort,
    Profile::Size,
    Profile::DebugInfo,
    Profile::V0,
];

impl Profile {
    /// The name in the targets' manifest.
    pub(crate) fn cargo_name(self) -> &'static str {
        match self {
            Profile::Release | Profile::V0 | Profile::Folded | Profile::Musl => "release",
            Profile::Fat => "fat",
            Profile::Abort | Profile::FramePointers | Profile::Bare => "abort",
            Profile::Size => "size",
            Profile::DebugInfo => "debuginfo",
            Profile::DebugTypes => "debugtypes",
        }
    }

    pub(crate) fn rustflags(self) -> Option<&'static str> {
        match self {
            Profile::V0 => Some("-C symbol-mangling-version=v0"),
            Profile::Folded => Some("-C link-arg=-Wl,--icf=all"),
            Profile::FramePointers => Some("-C force-frame-pointers=yes -C force-unwind-tables=no"),
            Profile::Bare => Some("-C force-frame-pointers=no -C force-unwind-tables=no"),
            _ => None,
        }
    }
}

/// One cell of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Build {
    /// With which Tokio.
    pub tokio: Tokio,
    /// How.
    pub profile: Profile,
    /// Without symbols and debug information.
    pub stripped: bool,
}

impl Build {
    /// The newest Tokio, the default release profile, symbols kept.
    pub const DEFAULT: Build = Build {
        tokio: Tokio::Newest,
        profile: Profile::Release,
        stripped: false,
    };

    /// The same without symbols.
    #[must_use]
    pub const fn stripped(self) -> Build {
        Build {
            stripped: true,
            ..self
        }
    }
}

/// The programs and libraries that can be built, by file name.
pub fn package_of(file: &str) -> &'static str {
    match file {
        "late_tokio" => "host",
        "libplugin.so" => "plugin",
        "sets" => "sets",
        "wrappers" | "libwrapped.so" => "wrapped",
        _ => "targets",
    }
}

/// Every profile with the newest Tokio, and every version with the default profile.
pub fn cells() -> impl Iterator<Item = Build> {
    let cell = |tokio, profile| Build {
        tokio,
        profile,
        stripped: false,
    };
    let profiles = PROFILES
        .into_iter()
        .map(move |profile| cell(Tokio::Newest, profile));
    let others = VERSIONS.into_iter().filter(|v| *v != Tokio::Newest);
    profiles.chain(others.map(move |version| cell(version, Profile::Release)))
}
