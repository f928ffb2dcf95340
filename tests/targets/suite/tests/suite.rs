//! Tests of a program like any other, for loopprobe as cargo's runner: one blocks its event loop.

use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_blocks() {
    tokio::spawn(async { std::thread::sleep(Duration::from_millis(300)) }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_waits() {
    tokio::spawn(tokio::time::sleep(Duration::from_millis(300))).await.unwrap();
}

#[test]
fn no_event_loop() {
    std::thread::sleep(Duration::from_millis(1));
}

#[test]
#[ignore = "only where it is asked for"]
fn it_fails() {
    panic!("as it should");
}
