use anyhow::Context as _;

use super::session_output::SessionOutput;
use crate::{
    cli::{GlobalArgs, MetricsArgs},
    export::metrics::Metrics,
};

/// Shows figures as was asked for.
///
/// # Errors
///
/// If the address cannot be listened at.
pub fn add(
    args: &MetricsArgs,
    global: &GlobalArgs,
    output: &mut SessionOutput,
) -> anyhow::Result<()> {
    let Some(address) = &args.metrics else {
        return Ok(());
    };
    let metrics = Metrics::listen(address)
        .with_context(|| format!("cannot listen at {address} (--metrics HOST:PORT)"))?;
    if !global.quiet {
        anstream::eprintln!("metrics: http://{}/metrics", metrics.address()?);
    }
    output.add(vec![Box::new(metrics)]);
    Ok(())
}
