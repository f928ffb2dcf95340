//! The names of functions that a C library exports, to know them in programs that are linked
//! statically too.

use std::{collections::HashSet, sync::LazyLock};

/// What glibc 2.36 exports from `libc.so.6` and `libm.so.6` (`nm -D`), a name a line, and where
/// programs begin.
const NAMES: &str = include_str!("c_names.txt");

/// Whether a function is the C library's. Names that begin with an underscore are reserved for it,
/// but for `_Z`, with which those of C++ begin.
pub(crate) fn is_c_name(name: &str) -> bool {
    static KNOWN: LazyLock<HashSet<&str>> = LazyLock::new(|| NAMES.lines().collect());
    (name.starts_with('_') && !name.starts_with("_Z")) || KNOWN.contains(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exported_and_reserved_names_are_the_c_librarys() {
        for name in [
            "nanosleep",
            "getaddrinfo",
            "__syscall_cp",
            "_int_free",
            "main",
        ] {
            assert!(is_c_name(name), "{name}");
        }
        for name in ["sqlite3_step", "insert_row", "_ZN4node4LoadE"] {
            assert!(!is_c_name(name), "{name}");
        }
    }
}
