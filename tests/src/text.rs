//! The machine code of a running process, compared with its file.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// How many bytes of the executable's text in the memory of `pid` differ from those in the file. Reads only.
///
/// # Errors
/// When the process or its memory cannot be read.
pub fn changed_bytes(pid: u32) -> Result<usize> {
    let executable = std::fs::read_link(format!("/proc/{pid}/exe"))?;
    let file = File::open(format!("/proc/{pid}/exe"))?;
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    let mut changed = 0;
    for line in std::fs::read_to_string(format!("/proc/{pid}/maps"))?.lines() {
        let mut fields = line.split_ascii_whitespace();
        let (range, access, offset) = (fields.next(), fields.next(), fields.next());
        let path = fields.nth(2);
        if !access.is_some_and(|access| access.starts_with("r-x"))
            || path.map(AsRef::as_ref) != Some(executable.as_path())
        {
            continue;
        }
        let (start, end) = range
            .and_then(|range| range.split_once('-'))
            .context("a range")?;
        let (start, end) = (
            u64::from_str_radix(start, 16)?,
            u64::from_str_radix(end, 16)?,
        );
        let offset = u64::from_str_radix(offset.context("an offset")?, 16)?;
        let mut mapped = vec![0; (end - start) as usize];
        memory.read_exact_at(&mut mapped, start)?;
        let mut stored = vec![0; mapped.len()];
        let len = file.read_at(&mut stored, offset)?;
        changed += mapped[..len]
            .iter()
            .zip(&stored[..len])
            .filter(|(a, b)| a != b)
            .count();
    }
    Ok(changed)
}

/// Waits until the text of `pid` is that of its file: probes of a process that was killed go when the kernel gets to it.
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
