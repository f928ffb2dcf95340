//! The profile for speedscope.

use loopprobe::report::Speedscope;
use loopprobe_tests::synthetic;

use crate::{draw, total};

#[test]
fn speedscope_weights_add_up_and_name_their_frames() {
    let polls = synthetic::polls(201);
    let json: serde_json::Value =
        serde_json::from_slice(&draw(Speedscope, &synthetic::session(&polls))).unwrap();
    let frames = json["shared"]["frames"].as_array().unwrap();
    let all = &json["profiles"][0];
    let weights = all["weights"].as_array().unwrap();
    let sum: u64 = weights.iter().map(|weight| weight.as_u64().unwrap()).sum();
    assert_eq!(sum, total(&polls));
    assert_eq!(all["endValue"].as_u64(), Some(sum));
    assert_eq!(all["samples"].as_array().unwrap().len(), weights.len());
    for sample in all["samples"].as_array().unwrap() {
        for frame in sample.as_array().unwrap() {
            assert!((frame.as_u64().unwrap() as usize) < frames.len());
        }
    }
    let others = json["profiles"].as_array().unwrap()[1..].iter();
    let by_task: u64 = others.map(|p| p["endValue"].as_u64().unwrap()).sum();
    assert_eq!(by_task, sum);
}
