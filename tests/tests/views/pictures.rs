//! Pictures for a person to look at.

use loopprobe::report::{Flamegraph, Html, Pprof, Speedscope};
use loopprobe_tests::synthetic;

use crate::{Page, draw, write_sink};

/// Writes the pictures of a synthetic session, to be looked at: `LOOPPROBE_PICTURES=DIR cargo test
/// -- --ignored`.
#[test]
#[ignore = "writes files for a person to look at"]
fn pictures() {
    let dir = std::path::PathBuf::from(std::env::var_os("LOOPPROBE_PICTURES").unwrap());
    let events = synthetic::session(&synthetic::polls(201));
    std::fs::write(
        dir.join("flamegraph.svg"),
        draw(Flamegraph::default(), &events),
    )
    .unwrap();
    let page = Page::default();
    write_sink(Html::new(page.clone()), &events);
    std::fs::write(dir.join("report.html"), page.0.take()).unwrap();
    std::fs::write(dir.join("speedscope.json"), draw(Speedscope, &events)).unwrap();
    std::fs::write(dir.join("profile.pb.gz"), draw(Pprof, &events)).unwrap();
}
