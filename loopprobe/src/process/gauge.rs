//! Small files of the kernel's whose text changes, kept open.

use std::{fs::File, io, os::unix::fs::FileExt as _, path::Path};

/// A file like `cpu.stat` or `/proc/PID/statm`, of which each reading takes one system call. It
/// stays the same process's or group's file, whatever has its name later.
#[derive(Debug)]
pub struct Gauge(File);

/// More than any of them has.
const MOST: usize = 4096;

impl Gauge {
    /// Opens the file.
    ///
    /// # Errors
    ///
    /// As for [`File::open`].
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        File::open(path).map(Self)
    }

    /// What it says now; `None` if that cannot be read, or the process is gone.
    pub fn read(&self) -> Option<String> {
        let mut bytes = vec![0; MOST];
        let len = self.0.read_at(&mut bytes, 0).ok()?;
        bytes.truncate(len);
        String::from_utf8(bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reading_is_of_its_moment_and_of_the_file_that_was_opened() {
        let name = format!("loopprobe-gauge-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, "one").expect("a file");
        let gauge = Gauge::open(&path).expect("it is there");
        assert_eq!(gauge.read().as_deref(), Some("one"));
        std::fs::write(&path, "another").expect("a file");
        assert_eq!(gauge.read().as_deref(), Some("another"));
        std::fs::remove_file(&path).expect("it is there");
        assert_eq!(gauge.read().as_deref(), Some("another"));
    }
}
