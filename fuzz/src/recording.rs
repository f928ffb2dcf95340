//! Reads bytes as a recording, and gives their JSON lines to the text, JSON and HTML views.

use loopprobe::{
    model::{Event, Sink},
    recording::Reader,
    report::{Html, JsonSink, TextOptions, TextSink},
};

/// A recording, and events as the text, JSON and HTML views show them.
pub fn recording(bytes: &[u8]) {
    if let Ok(reader) = Reader::new(bytes) {
        for event in reader {
            let _ = event;
        }
    }
    // A block's checksum keeps mutations from its events, so they are also given as they are.
    let mut sinks: [Box<dyn Sink>; 3] = [
        Box::new(TextSink::new(std::io::sink(), TextOptions::default())),
        Box::new(JsonSink::new(std::io::sink())),
        Box::new(Html::new(std::io::sink())),
    ];
    for event in bytes
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<Event>(line).ok())
    {
        for sink in &mut sinks {
            let _ = sink.event(&event);
        }
    }
}
