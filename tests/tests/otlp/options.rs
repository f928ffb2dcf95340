//! Options that ask for what cannot be sent.

use std::process::Command;

use anyhow::{Result, ensure};
use loopprobe_tests::matrix;

#[test]
fn what_cannot_be_sent_is_refused_at_once() -> Result<()> {
    let refused = |args: &[&str], said: &str| -> Result<()> {
        let mut command = Command::new(matrix::loopprobe()?);
        let output = command.args(["attach", "--pid", "1"]).args(args).output()?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(2), "{errors}");
        ensure!(errors.contains(said), "{errors}");
        Ok(())
    };
    refused(&["--otlp", "127.0.0.1:4318"], "grpc://HOST:4317")?;
    let url = "http://127.0.0.1:4318/v1/traces";
    refused(&["--otlp", url], "give 'http://127.0.0.1:4318'")?;
    let url = "grpc://127.0.0.1:4317/v1/traces";
    refused(&["--otlp", url], "give 'grpc://127.0.0.1:4317'")?;
    for header in ["x-bin=1", "grpc-timeout=1S"] {
        let args = ["--otlp", "grpc://127.0.0.1", "--otlp-header", header];
        refused(&args, "cannot be sent over gRPC")?;
    }
    Ok(())
}
