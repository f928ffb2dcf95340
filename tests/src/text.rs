//! The machine code of a running process, compared with its files.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// How many bytes of executable memory of `pid` differ from the files that are mapped there: its
/// own, and those of all libraries. Reads only.
///
/// # Errors
/// When the process or its memory cannot be read.
pub fn changed_bytes(pid: u32) -> Result<usize> {
    Ok(changed_places(pid)?.len())
}

/// Their addresses, in order.
///
/// # Errors
/// When the process or its memory cannot be read.
pub fn changed_places(pid: u32) -> Result<Vec<u64>> {
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    let (mut changed, mut compared) = (Vec::new(), 0);
    for line in std::fs::read_to_string(format!("/proc/{pid}/maps"))?.lines() {
        let Some(mapping) = Mapping::of_code(line)? else {
            continue;
        };
        let (mapped, stored) = mapping.contents(pid, &memory)?;
        compared += stored.len();
        if mapped[..stored.len()] == stored {
            continue;
        }
        let pairs = mapped.iter().zip(&stored).zip(mapping.start..);
        changed.extend(pairs.filter(|((a, b), _)| a != b).map(|(_, place)| place));
    }
    ensure!(compared > 0, "process {pid} has no code in files");
    Ok(changed)
}

/// Executable memory from a file.
struct Mapping<'a> {
    /// As in `/proc/PID/maps`, and the name in `/proc/PID/map_files`.
    range: &'a str,
    start: u64,
    end: u64,
    offset: u64,
}

impl<'a> Mapping<'a> {
    fn of_code(line: &'a str) -> Result<Option<Self>> {
        let mut fields = line.split_ascii_whitespace();
        let (range, access, offset) = (fields.next(), fields.next(), fields.next());
        let of_file = fields.nth(2).is_some_and(|path| path.starts_with('/'));
        if !of_file || !access.is_some_and(|access| access.contains('x')) {
            return Ok(None);
        }
        let range = range.context("a range")?;
        let (start, end) = range.split_once('-').context("a range")?;
        Ok(Some(Mapping {
            range,
            start: u64::from_str_radix(start, 16)?,
            end: u64::from_str_radix(end, 16)?,
            offset: u64::from_str_radix(offset.context("an offset")?, 16)?,
        }))
    }

    /// What is in memory, and what is in the file, as far as it reaches.
    fn contents(&self, pid: u32, memory: &File) -> Result<(Vec<u8>, Vec<u8>)> {
        let mut mapped = vec![0; (self.end - self.start) as usize];
        memory.read_exact_at(&mut mapped, self.start)?;
        // Leads to the file even if it was removed.
        let file = File::open(format!("/proc/{pid}/map_files/{}", self.range))
            .with_context(|| format!("the file at {}", self.range))?;
        let mut stored = vec![0; mapped.len()];
        let length = file.read_at(&mut stored, self.offset)?;
        stored.truncate(length);
        Ok((mapped, stored))
    }
}

/// Waits until the text of `pid` is that of its files: probes of a process that was killed go when
/// the kernel gets to it.
///
/// # Errors
/// When that does not happen within seconds.
pub fn until_clean(pid: u32) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let changed = changed_bytes(pid)?;
        if changed == 0 {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "{changed} bytes of the text are still changed"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}
