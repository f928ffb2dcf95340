//! The profile for pprof.

use loopprobe::report::Pprof;
use loopprobe_tests::synthetic;

use crate::{draw, total};

/// Reads with the reader that the format comes from. Where Go is not installed nothing can be said,
/// and the test says so.
#[test]
fn go_tool_pprof_reads_the_profile() {
    if std::process::Command::new("go")
        .arg("version")
        .output()
        .is_err()
    {
        eprintln!("skipped: `go` is not installed (apt-get install golang-go)");
        return;
    }
    let mut polls = synthetic::polls(201);
    // The library's frame comes first on the stack, and so would its mapping.
    let frames = &mut polls[0].stacks[0].frames;
    frames[0].module = Some("/usr/lib/libc.so.6".to_owned());
    frames[1].module = Some("/usr/bin/api-server".to_owned());
    frames[2].function = Some("<hyper::Body<T> as hyper::Drive>::poll".to_owned());
    let path = std::env::temp_dir().join(format!("loopprobe-{}.pb.gz", std::process::id()));
    std::fs::write(&path, draw(Pprof, &synthetic::session(&polls))).unwrap();
    let pprof = |args: &[&str]| {
        let output = std::process::Command::new("go")
            .args(["tool", "pprof", "-symbolize=none"])
            .args(args)
            .arg(&path)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let top = pprof(&["-top", "-unit=ms", "-nodecount=99"]);
    assert!(top.contains("Type: blocked"), "{top}");
    let shown = top.split(" total").next().unwrap();
    let shown = shown.rsplit("of ").next().unwrap().trim_end_matches("ms");
    let truth = total(&polls) as f64 / 1e6;
    let relative = (shown.parse::<f64>().unwrap() - truth).abs() / truth;
    assert!(relative < 0.001, "{top}");
    let leaves = synthetic::file_reads_ns(&polls) as f64 / 1e6;
    let line = top
        .lines()
        .find(|line| line.ends_with("[file I/O: read]"))
        .unwrap();
    let flat = line
        .split_whitespace()
        .next()
        .unwrap()
        .trim_end_matches("ms");
    assert!(
        (flat.parse::<f64>().unwrap() - leaves).abs() / leaves < 0.001,
        "{line}"
    );
    let raw = pprof(&["-raw"]);
    assert!(raw.contains("api::upload::store src/upload.rs:57"), "{raw}");
    assert!(raw.contains("task:[api::upload::handle]"), "{raw}");
    let top = pprof(&[
        "-top",
        "-cum",
        "-unit=ms",
        "-nodecount=99",
        "-nodefraction=0",
    ]);
    assert!(
        top.contains("<hyper::Body<T> as hyper::Drive>::poll"),
        "{top}"
    );
    assert!(top.contains("File: api-server"), "{top}");
    std::fs::remove_file(path).unwrap();
}
