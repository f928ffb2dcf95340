//! `empty_probes pair|entry|switch PID`: probes that do nothing, on every poll of a process or at
//! every context switch, until the input ends. What loopprobe's own cost is compared with these.

use std::io::Read as _;

use anyhow::{Context as _, Result, bail};
use loopprobe::attach::Role;
use loopprobe_tests::planned::planned;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let which = args.next().unwrap_or_default();
    let pid = args.next().context("no PID")?.parse()?;
    let (mut kernel, mut images, sites) = planned(pid)?;
    if which == "switch" {
        kernel.attach_baseline_switch()?;
        images.clear();
    }
    for image in &mut images {
        let mut probes = std::mem::take(&mut image.probes);
        if let Some(exits) = probes.remove(&Role::PollExit) {
            match which.as_str() {
                "pair" => image.probes.insert(Role::BaselineExit, exits.clone()),
                "entry" => None,
                _ => bail!("neither `pair` nor `entry`"),
            };
            image.probes.insert(Role::BaselineEnter, exits);
        }
        kernel.attach(image)?;
    }
    println!(r#"{{"type":"session","sites":{sites}}}"#);
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
