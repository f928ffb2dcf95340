//! A recording gives back what was recorded, whatever happened to its writer or its file.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::PathBuf,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use loopprobe::{
    model::{Event, Sink as _},
    recording::{Damage, Ending, FLUSH_INTERVAL, Reader, Recorder, RecordingError, Tail},
    report::{Html, TextOptions, TextSink},
};
use loopprobe_tests::synthetic;

/// A disk that is full after so many bytes.
#[derive(Clone)]
struct Disk {
    content: Arc<Mutex<Vec<u8>>>,
    size: usize,
}

impl Disk {
    fn new(size: usize) -> Self {
        Self {
            content: Arc::default(),
            size,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        self.content.lock().unwrap().clone()
    }
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut content = self.content.lock().unwrap();
        let room = self.size - content.len();
        if room == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        content.write(&bytes[..bytes.len().min(room)])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn record(events: &[Event]) -> Vec<u8> {
    let disk = Disk::new(usize::MAX);
    let mut recorder = Recorder::new(disk.clone()).unwrap();
    for event in events {
        recorder.event(event).unwrap();
    }
    drop(recorder);
    disk.bytes()
}

fn read(bytes: &[u8]) -> (Vec<Event>, Option<Tail>) {
    let mut reader = Reader::new(bytes).unwrap();
    let events = reader.by_ref().collect::<Result<_, _>>().unwrap();
    (events, reader.tail())
}

#[test]
fn a_recording_reads_back_as_it_was() {
    let events = synthetic::session(&synthetic::polls(5_000));
    let bytes = record(&events);
    let (read, tail) = read(&bytes);
    assert!(read == events);
    assert_eq!(tail, None);
    let json: usize = events
        .iter()
        .map(|e| serde_json::to_vec(e).unwrap().len() + 1)
        .sum();
    assert!(bytes.len() * 8 < json, "{} of {json} bytes", bytes.len());
}

#[test]
fn a_recording_cut_anywhere_gives_all_whole_blocks_and_says_what_is_missing() {
    let mut bytes = record(&[synthetic::head("api")]);
    let first = bytes.len();
    let polls = synthetic::polls(50);
    let second = record(
        &polls
            .iter()
            .cloned()
            .map(Event::LongPoll)
            .collect::<Vec<_>>(),
    );
    bytes.extend_from_slice(&second[16..]);
    for len in first..bytes.len() {
        let (events, tail) = read(&bytes[..len]);
        assert_eq!(events.len(), 1, "cut at {len}");
        let expected = (len > first).then(|| Tail {
            damage: Damage::Torn,
            offset: first as u64,
            dropped: (len - first) as u64,
        });
        assert_eq!(tail, expected);
    }
    assert_eq!(read(&bytes).0.len(), 1 + polls.len());
}

#[test]
fn a_full_disk_is_an_error_and_loses_nothing_earlier() {
    let events = synthetic::session(&synthetic::polls(20_000));
    let disk = Disk::new(60_000);
    let mut recorder = Recorder::new(disk.clone()).unwrap();
    let failed = events.iter().find_map(|event| recorder.event(event).err());
    assert_eq!(failed.unwrap().kind(), io::ErrorKind::StorageFull);
    let (read, tail) = read(&disk.bytes());
    assert!(read.len() > 100);
    assert!(read[..] == events[..read.len()]);
    assert_eq!(tail.unwrap().damage, Damage::Torn);
}

#[test]
fn what_was_recorded_is_on_disk_soon_even_if_nothing_follows() {
    let disk = Disk::new(usize::MAX);
    let mut recorder = Recorder::new(disk.clone()).unwrap();
    recorder.event(&synthetic::head("api")).unwrap();
    // Ten intervals, for a machine that is busy.
    let deadline = Instant::now() + FLUSH_INTERVAL * 10;
    while read(&disk.bytes()).0.is_empty() {
        assert!(Instant::now() < deadline);
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn other_files_and_other_versions_are_refused_by_name() {
    let refusal = |bytes: &[u8]| Reader::new(bytes).err().unwrap().to_string();
    assert!(refusal(b"").contains("is empty"));
    assert!(refusal(b"{\"type\":\"session\"}").contains("JSON"));
    assert!(refusal(&[0x7f, b'E', b'L', b'F', 2, 1, 1]).contains("executable"));
    let mut bytes = record(&synthetic::session(&[]));
    bytes[12] = 9;
    assert!(refusal(&bytes).contains("format 9"));

    let mut head = synthetic::head("api");
    if let Event::Session(session) = &mut head {
        session.schema = 99;
        session.version = "7.0.0".to_owned();
    }
    let bytes = record(&[head]);
    let error = Reader::new(&bytes[..])
        .unwrap()
        .next()
        .unwrap()
        .unwrap_err();
    assert!(matches!(error, RecordingError::Schema { found: 99, .. }));
    assert!(error.to_string().contains("7.0.0"));
}

#[test]
fn a_damaged_file_never_panics() {
    let bytes = record(&synthetic::session(&synthetic::polls(20)));
    for i in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[i] ^= 0x55;
        if let Ok(mut reader) = Reader::new(&damaged[..]) {
            reader.by_ref().for_each(drop);
            assert!(reader.tail().is_some(), "byte {i}");
        }
    }
}

#[test]
fn a_recording_without_its_end_gets_a_summary_of_its_long_polls() {
    let polls = synthetic::polls(101);
    let mut events = synthetic::session(&polls);
    events.pop();
    let mut ending = Ending::default();
    events.iter().for_each(|event| ending.event(event));
    let summary = ending.summary().unwrap();
    assert_eq!(summary.long_polls, polls.len() as u64);
    assert_eq!(
        summary.long_ns,
        polls.iter().map(|poll| poll.duration_ns).sum::<u64>()
    );
    assert_eq!(summary.reason, Ending::REASON);
    assert_eq!(summary.groups.len(), 3);
}

#[test]
fn what_a_recording_without_its_end_does_not_say_is_unknown_in_every_view() {
    let mut events = synthetic::session(&synthetic::polls(20));
    events.pop();
    let mut ending = Ending::default();
    events.iter().for_each(|event| ending.event(event));
    events.push(Event::Summary(ending.summary().unwrap()));

    let summary = serde_json::to_value(events.last()).unwrap();
    for field in ["polls", "p50_ns", "p99_ns", "lost", "workers"] {
        assert_eq!(
            summary.get(field),
            Some(&serde_json::Value::Null),
            "{field}"
        );
    }
    assert!(summary["max_ns"].is_u64());

    let mut text = Vec::new();
    let plain = anstream::StripStream::new(&mut text);
    let mut sink = TextSink::new(
        plain,
        TextOptions {
            quiet: true,
            ..TextOptions::default()
        },
    );
    events.iter().for_each(|event| sink.event(event).unwrap());
    drop(sink);
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("polls and percentiles unknown"), "{text}");
    assert!(text.contains("lost: unknown"), "{text}");
    assert!(!text.contains("p50 0"), "{text}");

    let mut html = Vec::new();
    let mut sink = Html::new(&mut html);
    events.iter().for_each(|event| sink.event(event).unwrap());
    let html = String::from_utf8(html).unwrap();
    assert!(html.contains("What was lost is not known."));
    assert!(!html.contains("Nothing was lost"));
}

#[test]
fn a_writer_killed_in_the_middle_leaves_a_readable_file() {
    let path = temp("killed.lpr");
    // The child is this very test, which records until it is killed.
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["records_until_it_is_killed", "--exact", "--ignored"])
        .env("LOOPPROBE_RECORD_TO", &path)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut child = child;
    let deadline = Instant::now() + Duration::from_secs(20);
    while fs::metadata(&path).map_or(0, |file| file.len()) < 50_000 {
        assert!(Instant::now() < deadline);
        thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let (events, tail) = read(&fs::read(&path).unwrap());
    assert!(matches!(events[0], Event::Session(_)));
    assert!(events.len() > 100);
    if let Some(tail) = tail {
        assert_eq!(tail.damage, Damage::Torn);
    }
    fs::remove_file(path).unwrap();
}

#[test]
#[ignore = "never ends; run by another test, which kills it"]
fn records_until_it_is_killed() {
    let path = std::env::var_os("LOOPPROBE_RECORD_TO").unwrap();
    let mut recorder = Recorder::new(File::create(path).unwrap()).unwrap();
    recorder.event(&synthetic::head("api")).unwrap();
    for i in 0.. {
        let poll = synthetic::file_read(100, synthetic::START + i * 1_000_003, 20);
        recorder.event(&Event::LongPoll(poll)).unwrap();
    }
}

fn temp(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("loopprobe-{}-{name}", std::process::id()))
}
