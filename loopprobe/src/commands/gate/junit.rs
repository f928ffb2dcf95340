//! The outcome as JUnit XML, in the form that Jenkins, GitLab and others read: a test suite with a
//! case for each limit and for each kind of long poll.

use std::{
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use quick_xml::{
    Writer,
    events::{BytesDecl, BytesText, Event as Xml},
};

use super::{Check, Failure, Gate, Outcome, kinds::Kind, place::in_repository};
use crate::report::{WallClock, clean, rfc3339, words};

/// The file's name; `%p` in it stands for loopprobe's own process id, so that many can run at once.
pub(super) fn file_name(path: &Path) -> PathBuf {
    match path.to_str() {
        Some(name) => name.replace("%p", &std::process::id().to_string()).into(),
        None => path.to_owned(),
    }
}

/// A test case.
struct Case {
    class: String,
    name: String,
    seconds: f64,
    place: Option<(String, u32)>,
    result: CaseResult,
}

enum CaseResult {
    Passed,
    Failed {
        kind: &'static str,
        lines: Vec<String>,
    },
    Skipped(&'static str),
}

/// Writes the file.
pub(super) fn write(gate: &Gate, outcome: &Outcome, file: impl Write) -> io::Result<()> {
    let mut cases = verdicts(gate, outcome);
    let kinds = gate.kinds.worst_first();
    cases.extend(
        kinds
            .into_iter()
            .map(|(number, kind)| of_kind(number, kind, outcome)),
    );
    let mut xml = Writer::new_with_indent(BufWriter::new(file), b' ', 2);
    xml.write_event(Xml::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    xml.create_element("testsuites")
        .write_inner_content(|xml| suite(xml, gate, outcome, &cases))?;
    let mut file = xml.into_inner();
    writeln!(file)?;
    file.flush()
}

/// A case for each limit.
fn verdicts(gate: &Gate, outcome: &Outcome) -> Vec<Case> {
    let baseline = gate.baseline.as_ref();
    let baseline = baseline.map(|(_, name)| (Check::Baseline, format!("--baseline {name}")));
    let checks = gate.limits.all().chain(baseline);
    checks
        .map(|(check, limit)| {
            let failures: Vec<_> = outcome.of(check).collect();
            let result = if outcome.saw_nothing() {
                CaseResult::Skipped("no task was polled")
            } else {
                failed(&failures)
            };
            Case {
                class: "loopprobe".to_owned(),
                name: limit,
                seconds: outcome.summary.duration_ns as f64 / 1e9,
                place: None,
                result,
            }
        })
        .collect()
}

fn of_kind(number: usize, kind: &Kind, outcome: &Outcome) -> Case {
    let failures = outcome.failures.iter();
    let failures: Vec<_> = failures
        .filter(|failure| failure.kind == Some(number))
        .collect();
    let (task, cause, call) = &kind.key;
    let call = call
        .as_deref()
        .map_or_else(String::new, |call| format!(" in {call}"));
    Case {
        class: task.clone(),
        name: format!("{}{call}", words::cause(*cause)),
        seconds: kind.own.max_ns as f64 / 1e9,
        place: kind
            .place
            .as_ref()
            .map(|place| (in_repository(&place.file), place.line)),
        result: failed(&failures),
    }
}

fn failed(failures: &[&Failure]) -> CaseResult {
    let Some(first) = failures.first() else {
        return CaseResult::Passed;
    };
    let kind = match first.check {
        Check::Own => "fail-over",
        Check::Wall => "fail-over-wall",
        Check::Baseline => "baseline",
    };
    let lines = failures
        .iter()
        .map(|failure| format!("{}: {}", failure.limit, failure.message));
    CaseResult::Failed {
        kind,
        lines: lines.collect(),
    }
}

impl Outcome {
    fn of(&self, check: Check) -> impl Iterator<Item = &Failure> {
        self.failures
            .iter()
            .filter(move |failure| failure.check == check)
    }
}

fn suite<W: Write>(
    xml: &mut Writer<W>,
    gate: &Gate,
    outcome: &Outcome,
    cases: &[Case],
) -> io::Result<()> {
    let count = |wanted: fn(&CaseResult) -> bool| {
        cases
            .iter()
            .filter(|case| wanted(&case.result))
            .count()
            .to_string()
    };
    let session = gate.session.as_ref();
    let name = gate
        .program
        .as_deref()
        .or(session.map(|session| session.name.as_str()));
    let begun = session.map_or_else(String::new, |session| {
        let unix_ns = WallClock::of(session).unix_ns(session.start_ns);
        // JUnit's times have no fractions.
        rfc3339(unix_ns - unix_ns % 1_000_000_000)
    });
    let name = legal(name.unwrap_or("?"));
    let seconds = format!("{:.6}", outcome.summary.duration_ns as f64 / 1e9);
    let failures = count(|result| matches!(result, CaseResult::Failed { .. }));
    let skipped = count(|result| matches!(result, CaseResult::Skipped(_)));
    let suite = xml.create_element("testsuite").with_attributes([
        ("name", name.as_str()),
        ("tests", cases.len().to_string().as_str()),
        ("failures", failures.as_str()),
        ("errors", "0"),
        ("skipped", skipped.as_str()),
        ("time", seconds.as_str()),
        ("timestamp", begun.as_str()),
    ]);
    suite.write_inner_content(|xml| {
        for case in cases {
            write_case(xml, case)?;
        }
        Ok(())
    })?;
    Ok(())
}

fn write_case<W: Write>(xml: &mut Writer<W>, case: &Case) -> io::Result<()> {
    let seconds = format!("{:.6}", case.seconds);
    let mut element = xml.create_element("testcase").with_attributes([
        ("classname", legal(&case.class).as_str()),
        ("name", legal(&case.name).as_str()),
        ("time", seconds.as_str()),
    ]);
    if let Some((file, line)) = &case.place {
        element = element.with_attributes([
            ("file", legal(file).as_str()),
            ("line", line.to_string().as_str()),
        ]);
    }
    match &case.result {
        CaseResult::Passed => element.write_empty()?,
        CaseResult::Skipped(why) => element.write_inner_content(|xml| {
            xml.create_element("skipped")
                .with_attribute(("message", *why))
                .write_empty()?;
            Ok(())
        })?,
        CaseResult::Failed { kind, lines } => element.write_inner_content(|xml| {
            let lines: Vec<_> = lines.iter().map(|line| legal(line)).collect();
            let first = lines.first().map_or("", String::as_str);
            xml.create_element("failure")
                .with_attributes([("message", first), ("type", *kind)])
                .write_text_content(BytesText::new(&lines.join("\n")))?;
            Ok(())
        })?,
    };
    Ok(())
}

/// Names come from the target's file, and XML has no way to write most control characters.
fn legal(text: &str) -> String {
    clean(text).replace(['\u{fffe}', '\u{ffff}'], "\u{fffd}")
}
