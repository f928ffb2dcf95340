//! Computing: alone, beside others on the same CPU, and over a quota.

use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};

use targets::truth::span;
use targets::work::spin_ms;

use crate::{pause, LONG_MS};

/// Threads that compete with the preempted task for one CPU.
const HOGS: usize = 3;

// @cpu_task
pub async fn cpu_task(rounds: u32) {
    for _ in 0..rounds {
        cpu_child().await;
    }
}

// @cpu_child
async fn cpu_child() {
    pause().await;
    cpu_call();
}

#[inline(never)]
// @cpu_call
fn cpu_call() {
    let _span = span("cpu");
    spin_ms(LONG_MS);
}

fn affinity() -> libc::cpu_set_t {
    // SAFETY: a set of bits; all zeros is the empty set. The call fills it for the calling thread.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::sched_getaffinity(0, std::mem::size_of::<libc::cpu_set_t>(), &mut set);
        set
    }
}

fn set_affinity(set: &libc::cpu_set_t) {
    // SAFETY: `set` is a valid set; 0 is the calling thread.
    unsafe { libc::sched_setaffinity(0, std::mem::size_of::<libc::cpu_set_t>(), set) };
}

/// The first CPU that this thread may use, alone.
fn first_cpu() -> libc::cpu_set_t {
    let all = affinity();
    // SAFETY: all zeros is the empty set; the index is below CPU_SETSIZE.
    unsafe {
        let mut one: libc::cpu_set_t = std::mem::zeroed();
        let cpu = (0..libc::CPU_SETSIZE as usize)
            .find(|cpu| libc::CPU_ISSET(*cpu, &all))
            .unwrap_or(0);
        libc::CPU_SET(cpu, &mut one);
        one
    }
}

// @preempted_task
pub async fn preempted_task(rounds: u32) {
    for _ in 0..rounds {
        preempted_child().await;
    }
}

// @preempted_child
async fn preempted_child() {
    pause().await;
    let (all, one, over) = (affinity(), first_cpu(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..HOGS {
            scope.spawn(|| {
                set_affinity(&one);
                while !over.load(Ordering::Relaxed) {
                    spin_ms(1);
                }
            });
        }
        set_affinity(&one);
        preempted_call();
        over.store(true, Ordering::Relaxed);
        set_affinity(&all);
    });
}

#[inline(never)]
// @preempted_call
fn preempted_call() {
    let _span = span("preempted");
    spin_ms(LONG_MS);
}

/// Stops this process for longer than its task computes, soon.
fn stop_soon() -> Child {
    let pid = std::process::id();
    let script = format!("sleep 0.01; kill -STOP {pid}; sleep 0.08; kill -CONT {pid}");
    Command::new("sh")
        .args(["-c", &script])
        .spawn()
        .expect("sh can be run")
}

// @stopped_task
pub async fn stopped_task(rounds: u32) {
    for _ in 0..rounds {
        stopped_child().await;
    }
}

// @stopped_child
async fn stopped_child() {
    let mut stopper = stop_soon();
    pause().await;
    stopped_call(&mut stopper);
}

#[inline(never)]
// @stopped_call
fn stopped_call(stopper: &mut Child) {
    let _span = span("stopped");
    while stopper.try_wait().expect("a child").is_none() {
        spin_ms(1);
    }
}

// @throttled_task
pub async fn throttled_task(rounds: u32) {
    for _ in 0..rounds {
        throttled_child().await;
    }
}

// @throttled_child
async fn throttled_child() {
    pause().await;
    throttled_call();
}

#[inline(never)]
// @throttled_call
fn throttled_call() {
    let _span = span("throttled");
    spin_ms(LONG_MS);
}
