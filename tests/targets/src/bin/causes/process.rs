//! Sleeping, waiting for a child process, and running another event loop inside a poll.

use std::process::Command;
use std::time::Duration;

use targets::truth::span;

use crate::{pause, LONG_MS};

// @sleep_task
pub async fn sleep_task(rounds: u32) {
    for _ in 0..rounds {
        sleep_child().await;
    }
}

// @sleep_child
async fn sleep_child() {
    pause().await;
    sleep_call();
}

#[inline(never)]
// @sleep_call
fn sleep_call() {
    let _span = span("sleep");
    std::thread::sleep(Duration::from_millis(LONG_MS));
}

// @tail_task
pub async fn tail_task(rounds: u32) {
    for _ in 0..rounds {
        tail_child().await;
    }
}

// @tail_child
async fn tail_child() {
    pause().await;
    let _span = span("tail");
    tail_call();
}

/// Its last act is the call of another function, for which the compiler leaves its frame: a jump.
#[inline(never)]
// @tail_call
fn tail_call() {
    std::thread::sleep(Duration::from_millis(LONG_MS));
}

// @child_task
pub async fn child_task(rounds: u32) {
    for _ in 0..rounds {
        child_child().await;
    }
}

// @child_child
async fn child_child() {
    pause().await;
    child_call();
}

#[inline(never)]
// @child_call
fn child_call() {
    let _span = span("child");
    let status = Command::new("sleep")
        .arg("0.025")
        .status()
        .expect("sleep can be run");
    assert!(status.success());
}

// @nested_block_on_task
pub async fn nested_block_on_task(rounds: u32) {
    for _ in 0..rounds {
        nested_block_on_child().await;
    }
}

// @nested_block_on_child
async fn nested_block_on_child() {
    pause().await;
    nested_block_on_call();
}

#[inline(never)]
// @nested_block_on_call
fn nested_block_on_call() {
    let _span = span("nested_block_on");
    // A Tokio timer could wait for this very worker to drive it.
    let (done, wait) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(LONG_MS));
        let _ = done.send(());
    });
    let _ = futures_executor::block_on(wait);
}

// @nap_task
pub async fn nap_task(rounds: u32) {
    for _ in 0..rounds {
        nap_child().await;
    }
}

// @nap_child
async fn nap_child() {
    pause().await;
    nap_call();
}

/// `poll` of nothing, as older code naps.
#[inline(never)]
// @nap_call
fn nap_call() {
    let _span = span("nap");
    // SAFETY: there are no descriptors to point to.
    unsafe { libc::poll(std::ptr::null_mut(), 0, LONG_MS as i32) };
}
