//! Nothing of the target is changed.

use std::{thread, time::Duration};

use anyhow::{Result, ensure};
use loopprobe_tests::{
    matrix::Build, scenario::gated, session::Session, take_machine, text::changed_bytes,
};

use crate::WATCH;

#[test]
fn nothing_of_the_target_is_changed() -> Result<()> {
    take_machine!();
    let mut target = gated(Build::DEFAULT, "truth", &["sleep"])?;
    let session = Session::attach(target.pid(), &WATCH)?;
    ensure!(changed_bytes(target.pid())? == 0, "the text is changed");
    target.send("go")?;
    for _ in 0..10 {
        ensure!(changed_bytes(target.pid())? == 0, "the text is changed");
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", target.pid()))?;
        ensure!(!maps.contains("[uprobes]"), "there was a probe: {maps}");
        thread::sleep(Duration::from_millis(20));
    }
    let report = session.interrupt()?;
    ensure!(changed_bytes(target.pid())? == 0, "the text is changed");
    ensure!(!report.ended().is_empty(), "nothing was seen: {report:?}");
    Ok(())
}
