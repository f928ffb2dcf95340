//! Reads the `core::panic::Location` at an address, and tells a dependency from its path.

use crate::{
    elf::{Image, VirtAddr},
    model::SourceLocation,
};

/// `PATH_MAX` is 4096; the compiler's paths are far shorter.
const MAX_PATH: u64 = 1024;
/// No source file has more lines or columns.
const MAX_LINE: u32 = 1 << 24;

/// The `core::panic::Location` at `address`, if there is a credible one: path (pointer and length),
/// line, column.
///
/// Its layout was the same in all compilers seen (Rust 1.75 to 1.97). The path's length includes a
/// final NUL since 1.9x.
pub fn panic_location(image: &Image, address: VirtAddr) -> Option<SourceLocation> {
    let path = image.pointer_at(address)?;
    let len = image
        .u64_at(VirtAddr(address.0.checked_add(8)?))
        .filter(|len| *len <= MAX_PATH)?;
    let line = image.u32_at(VirtAddr(address.0.checked_add(16)?))?;
    let column = image.u32_at(VirtAddr(address.0.checked_add(20)?))?;
    let credible = |number: u32| (1..MAX_LINE).contains(&number);
    if !credible(line) || !credible(column) {
        return None;
    }
    let bytes = image.bytes_at(path, len as usize)?;
    let file = std::str::from_utf8(bytes.strip_suffix(b"\0").unwrap_or(bytes)).ok()?;
    let is_path = file.ends_with(".rs") && !file.contains(char::is_control);
    is_path.then(|| SourceLocation {
        file: file.to_owned(),
        line,
        column: Some(column),
    })
}

/// The dependency that a source path lies in: `hyper-util-0.1.20`, or `std`.
///
/// Cargo unpacks a crate into a folder of its name and version, which the compiler records
/// (`--remap-path-prefix` replaces only what is before it). Vendored folders and path dependencies
/// have no version and yield nothing.
pub fn registry_crate(file: &str) -> Option<&str> {
    if is_std(file) {
        return Some("std");
    }
    let parts: Vec<_> = file.split('/').collect();
    let (krate, rest) = parts
        .split_last()?
        .1
        .iter()
        .zip(parts.iter().skip(1))
        .rfind(|(folder, _)| is_versioned(folder))?;
    (!rest.is_empty()).then_some(*krate)
}

/// Whether a source file is one of the program's own workspace: its path is relative.
pub fn is_workspace(file: &str) -> bool {
    !file.starts_with('/') && registry_crate(file).is_none()
}

/// The part of a source path that a person wants to read: from the dependency's folder on, else all
/// of it.
pub fn short_path(file: &str) -> &str {
    match registry_crate(file) {
        Some("std") => file.split_once("/library/").map_or(file, |(_, path)| path),
        Some(krate) => file.rfind(krate).map_or(file, |start| &file[start..]),
        None => file,
    }
}

/// The standard library is recorded as `/rustc/COMMIT/library/...`, or below the `rust-src`
/// component.
fn is_std(file: &str) -> bool {
    (file.starts_with("/rustc/") || file.contains("/lib/rustlib/src/rust/"))
        && file.contains("/library/")
        || file.starts_with("library/")
}

/// `NAME-MAJOR.MINOR.PATCH...`, as the folders of Cargo's registry are named.
fn is_versioned(folder: &str) -> bool {
    let is_version = |version: &str| {
        let mut parts = version.splitn(3, '.');
        let is_number = |part: Option<&str>| {
            part.is_some_and(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))
        };
        is_number(parts.next())
            && is_number(parts.next())
            && parts
                .next()
                .is_some_and(|patch| patch.starts_with(|c: char| c.is_ascii_digit()))
    };
    folder
        .match_indices('-')
        .any(|(dash, _)| dash > 0 && is_version(&folder[dash + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CRATES: &str = "/home/me/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f";

    #[test]
    fn a_path_in_the_registry_names_its_crate() {
        let file = format!("{CRATES}/hyper-util-0.1.20/src/client/pool.rs");
        assert_eq!(registry_crate(&file), Some("hyper-util-0.1.20"));
        assert_eq!(short_path(&file), "hyper-util-0.1.20/src/client/pool.rs");
        let file = format!("{CRATES}/wasi-0.11.1+wasi-snapshot-preview1/src/lib.rs");
        assert_eq!(
            registry_crate(&file),
            Some("wasi-0.11.1+wasi-snapshot-preview1")
        );
    }

    #[test]
    fn a_replaced_prefix_leaves_the_crate() {
        assert_eq!(
            registry_crate("tokio-1.54.1/src/fs/read.rs"),
            Some("tokio-1.54.1")
        );
    }

    #[test]
    fn own_paths_belong_to_no_dependency() {
        for file in [
            "src/main.rs",
            "crates/api-v2/src/lib.rs",
            "/builds/app-1.2/src/main.rs",
            "vendor/tokio/src/lib.rs",
            "a-1.2.3.rs",
        ] {
            assert_eq!((registry_crate(file), short_path(file)), (None, file));
        }
    }

    #[test]
    fn the_standard_library_is_marked_as_such() {
        let file =
            "/rustc/59807616e1fa2540724bfbac14d7976d7e4a3860/library/core/src/future/poll_fn.rs";
        assert_eq!(
            (registry_crate(file), short_path(file)),
            (Some("std"), "core/src/future/poll_fn.rs")
        );
    }
}
