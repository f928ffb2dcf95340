//! The address at which metrics are asked for.

use std::net::TcpListener;

use anyhow::{Context as _, Result, ensure};
use loopprobe_tests::{session::Session, share_machine, target::Target};

#[test]
fn an_address_that_is_taken_is_an_error_before_the_attach() -> Result<()> {
    share_machine!();
    let target = Target::busy("block", 15_000)?;
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let refused = Session::attach(target.pid(), &["--metrics", &address]);
    let error = format!("{:#}", refused.err().context("it was not refused")?);
    ensure!(
        error.contains(&format!("cannot listen at {address}")),
        "{error}"
    );
    Ok(())
}
