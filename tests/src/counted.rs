//! How many polls a target has counted itself, to hold figures against that change now and then.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::target::Target;

/// A moment, in nanoseconds of `CLOCK_MONOTONIC`, and how many polls there were by then.
pub type Count = (u64, f64);

/// What the target (`busy`) says up to a moment.
///
/// # Errors
/// When it says nothing for long.
pub fn counts(target: &Target, until_ns: u64) -> Result<Vec<Count>> {
    let mut counts: Vec<Count> = Vec::new();
    while counts.last().is_none_or(|(at, _)| *at < until_ns) {
        let lines = target.until("rate", Duration::from_secs(5))?;
        let line = lines.last().context("a line")?;
        let at = line["at_ns"].as_u64().context("a time")?;
        counts.push((at, line["polls"].as_f64().context("a count")?));
    }
    Ok(counts)
}

/// As the target's clock.
pub fn monotonic_ns() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a live value.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

/// How many there were at a moment, in between two.
///
/// # Errors
/// When it lies between none of them.
pub fn at(counts: &[Count], ns: u64) -> Result<f64> {
    let pair = counts
        .windows(2)
        .find(|pair| (pair[0].0..=pair[1].0).contains(&ns));
    let [(from, before), (to, after)] = pair.context("it lies between two")? else {
        bail!("two of them");
    };
    Ok(before + (after - before) * (ns - from) as f64 / (to - from) as f64)
}
