//! Which releases a program links, from the paths of panic locations that stripping keeps.

use std::collections::BTreeSet;

use memchr::memmem;

use crate::elf::Image;

/// A Tokio version: major, minor, patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// No more than this many distinct versions are kept; a program links two or three at most.
const MAX_VERSIONS: usize = 16;

/// What the folder of a release's sources begins with.
const CRATE: &[u8] = b"tokio-";
/// The longest version that is read, and what comes behind it.
const MAX_REST: usize = MAX_NUMBERS + SOURCES.len();
const MAX_NUMBERS: usize = 24;
const SOURCES: &[u8] = b"/src/";

/// The versions named by the paths of Tokio's panic locations, `tokio-X.Y.Z/src/...`, which
/// stripped files keep.
pub(super) fn from_locations(image: &Image) -> BTreeSet<Version> {
    let finder = memmem::Finder::new(CRATE);
    let mut versions = BTreeSet::new();
    for range in image.data_ranges().chain(image.executable_ranges()) {
        let mut pieces = image.pieces(range, 1, CRATE.len() + MAX_REST);
        while let Some(piece) = pieces.next() {
            let bytes = piece.bytes;
            let found = finder
                .find_iter(bytes)
                .filter(|at| piece.own.contains(at))
                .filter(|&at| !is_end_of_a_longer_name(&bytes[..at]))
                .filter_map(|at| parse(&bytes[at + CRATE.len()..]));
            versions.extend(found);
            if versions.len() > MAX_VERSIONS {
                return versions.into_iter().take(MAX_VERSIONS).collect();
            }
        }
    }
    versions
}

/// Whether the crate's name does not begin with `tokio`, as in `reqsign-file-read-tokio-3.0.7`. A
/// path that was cut short at its beginning can follow any other character.
fn is_end_of_a_longer_name(before: &[u8]) -> bool {
    matches!(before.last(), Some(b'-' | b'_'))
}

/// Reads `X.Y.Z/src/` at the beginning of `bytes`.
fn parse(bytes: &[u8]) -> Option<Version> {
    let end = bytes.iter().take(MAX_NUMBERS).position(|b| *b == b'/')?;
    bytes[end..].starts_with(SOURCES).then_some(())?;
    let mut numbers = std::str::from_utf8(&bytes[..end])
        .ok()?
        .splitn(3, '.')
        .map(|n| n.parse().ok());
    Some(Version(
        numbers.next()??,
        numbers.next()??,
        numbers.next()??,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_from_a_path() {
        assert_eq!(parse(b"1.44.2/src/runtime/mod.rs"), Some(Version(1, 44, 2)));
        assert_eq!(parse(b"1.44.2/tests/"), None);
        assert_eq!(parse(b"util-0.7.1/src/"), None);
        assert_eq!(parse(b"1.44/src/"), None);
        assert_eq!(parse(b""), None);
    }

    #[test]
    fn a_crate_whose_name_ends_with_tokio_is_another() {
        assert!(is_end_of_a_longer_name(b"registry/reqsign-file-read-"));
        assert!(!is_end_of_a_longer_name(b"registry/src/"));
        assert!(!is_end_of_a_longer_name(b""));
    }
}
