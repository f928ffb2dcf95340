//! Continuous profiles: what a receiver like Pyroscope decodes is what was blocked.

use std::{collections::BTreeMap, io::Read as _, time::Duration};

use anyhow::{Context as _, Result, ensure};
use flate2::read::GzDecoder;
use loopprobe_tests::{
    matrix::{self, Build, target},
    receiver::{Answer, Receiver, Sent},
    session::Session,
    share_machine,
    target::Target,
};
use prost::Message as _;

/// The fields of pprof's `profile.proto` that are looked at here.
#[derive(Clone, PartialEq, prost::Message)]
struct Profile {
    #[prost(message, repeated, tag = "1")]
    sample_type: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    sample: Vec<Sample>,
    #[prost(message, repeated, tag = "5")]
    function: Vec<Function>,
    #[prost(string, repeated, tag = "6")]
    string_table: Vec<String>,
    #[prost(int64, tag = "9")]
    time_nanos: i64,
    #[prost(int64, tag = "10")]
    duration_nanos: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ValueType {
    #[prost(int64, tag = "1")]
    r#type: i64,
    #[prost(int64, tag = "2")]
    unit: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Sample {
    #[prost(int64, repeated, tag = "2")]
    value: Vec<i64>,
    #[prost(message, repeated, tag = "3")]
    label: Vec<Label>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Label {
    #[prost(int64, tag = "1")]
    key: i64,
    #[prost(int64, tag = "2")]
    str: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Function {
    #[prost(int64, tag = "2")]
    name: i64,
}

impl Profile {
    fn of(sent: &Sent) -> Result<Self> {
        let mut bytes = Vec::new();
        GzDecoder::new(sent.body.as_slice()).read_to_end(&mut bytes)?;
        Ok(Self::decode(bytes.as_slice())?)
    }

    fn text(&self, at: i64) -> &str {
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        self.string_table.get(at).map_or("", String::as_str)
    }

    /// Nanoseconds by cause.
    fn blocked(&self) -> Result<BTreeMap<String, u64>> {
        let at = self.sample_type.iter().position(|kind| {
            self.text(kind.r#type) == "blocked" && self.text(kind.unit) == "nanoseconds"
        });
        let at = at.context("blocked nanoseconds")?;
        let mut by_cause = BTreeMap::new();
        for sample in &self.sample {
            let cause = sample.label.iter().find(|l| self.text(l.key) == "cause");
            let cause = self.text(cause.context("a cause")?.str).to_owned();
            *by_cause.entry(cause).or_default() += u64::try_from(sample.value[at])?;
        }
        Ok(by_cause)
    }
}

/// Each poll's time is in one profile, that of the interval in which it ended.
#[test]
fn profiles_add_up_to_the_blocked_time() -> Result<()> {
    share_machine!();
    matrix::loopprobe()?;
    let receiver = Receiver::start(|number, _| match number {
        1 => Answer::Refuse(503, Some(1)),
        _ => Answer::Take(Vec::new()),
    })?;
    let program = target(Build::DEFAULT, "truth")?;
    let all = ["sleep", "--gate", "inside", "--rounds", "200", "--hold"];
    let mut target = Target::start(&program, &all)?;
    let url = receiver.url();
    let args = ["--push-profiles", &url, "--push-interval", "1s"];
    let session = Session::attach(target.pid(), &args)?;
    let truth = target.work()?;
    let report = session.interrupt()?;
    let mut sent = receiver.sent();
    ensure!(sent.len() >= 3, "{} requests in some 5 s", sent.len());
    ensure!(sent[1].body == sent[2].body, "it is sent again");
    sent.remove(1);
    ensure!(sent.len() >= 2, "{} profiles", sent.len());
    let (mut sum, mut asleep, mut until) = (0, 0, 0);
    for one in &sent {
        ensure!(one.url.starts_with("/ingest?"), "{}", one.url);
        let name = format!("truth{{pid={}", target.pid());
        let called = one.parameter("name").context("a name")?;
        ensure!(
            called.starts_with(&name) && called.ends_with('}'),
            "{called}"
        );
        ensure!(one.parameter("format").as_deref() == Some("pprof"));
        let time = |key| -> Result<u64> { Ok(one.parameter(key).context(key)?.parse()?) };
        let profile = Profile::of(one)?;
        let start = u64::try_from(profile.time_nanos)?;
        let end = start + u64::try_from(profile.duration_nanos)?;
        ensure!(time("from")? == start / 1_000_000_000, "{}", one.url);
        ensure!(time("until")? == end.div_ceil(1_000_000_000), "{}", one.url);
        ensure!(start >= until, "they do not overlap");
        until = end;
        let by_cause = profile.blocked()?;
        sum += by_cause.values().sum::<u64>();
        let sleeps = by_cause.iter().filter(|(cause, _)| cause.contains("sleep"));
        asleep += sleeps.map(|(_, ns)| ns).sum::<u64>();
        let mut functions = profile.function.iter().map(|f| profile.text(f.name));
        ensure!(functions.any(|name| name == "truth::steps"), "{profile:?}");
    }
    let reported: u64 = report.ended().iter().map(|poll| poll.duration_ns).sum();
    ensure!(sum == reported, "{sum} ns of {reported}");
    let long = truth.iter().filter(|poll| poll.kind == "async");
    let long = long.filter(|poll| poll.duration_ns() >= 10_000_000);
    let own: u64 = long.map(loopprobe_tests::truth::Poll::duration_ns).sum();
    println!(
        "{} profiles: {sum} ns, {asleep} asleep, of {own}",
        sent.len()
    );
    ensure!(
        (sum as f64 / own as f64 - 1.0).abs() < 0.05,
        "{sum} ns of {own}"
    );
    ensure!(asleep * 10 > sum * 8, "{asleep} of {sum}");
    ensure!(report.errors.contains("profiles sent"), "{}", report.errors);
    Ok(())
}

#[test]
fn a_receiver_that_hangs_is_given_up() -> Result<()> {
    share_machine!();
    let receiver = Receiver::start(|_, _| Answer::Hang)?;
    let url = receiver.url();
    let target = Target::busy("block", 20_000)?;
    let args = ["--push-profiles", &url, "--push-interval", "1s"];
    let session = Session::attach(target.pid(), &args)?;
    receiver.next(Duration::from_secs(30))?;
    let report = session.interrupt()?;
    ensure!(report.status.success(), "{}", report.errors);
    ensure!(
        report.errors.contains("1 profile lost"),
        "{}",
        report.errors
    );
    Ok(())
}
