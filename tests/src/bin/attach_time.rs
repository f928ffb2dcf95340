//! `attach_time TURNS PID`: attaches loopprobe's probes to a process and takes them off again, and
//! prints how long each took.

use std::time::Instant;

use anyhow::{Context as _, Result};
use loopprobe_tests::planned::planned;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let turns: u32 = args.next().context("no TURNS")?.parse()?;
    let pid = args.next().context("no PID")?.parse()?;
    let (mut kernel, images, _) = planned(pid)?;
    for _ in 0..turns {
        let start = Instant::now();
        for image in &images {
            kernel.attach(image)?;
        }
        let attached = Instant::now();
        kernel.detach();
        let (attach, detach) = (attached - start, attached.elapsed());
        let sites: usize = images
            .iter()
            .flat_map(|image| image.probes.values())
            .map(Vec::len)
            .sum();
        println!(
            r#"{{"type":"turn","probes":{sites},"attach_ms":{},"detach_ms":{}}}"#,
            attach.as_secs_f64() * 1e3,
            detach.as_secs_f64() * 1e3
        );
    }
    Ok(())
}
