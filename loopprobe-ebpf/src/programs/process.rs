//! Threads and processes that end, or execute another program.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};
use aya_log_ebpf::debug;
use loopprobe_common::{counters::Counter, records::Kind, thread::Thread};

use super::arguments;
use crate::{
    clock::now,
    event, health, light,
    maps::{WAKERS, config, count, is_light, is_over},
    thread::{current_tid, forget, known, visible},
    watch,
};

/// A thread ends.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub fn sched_process_exit(ctx: RawTracePointContext) -> i32 {
    let tid = current_tid();
    let _ = WAKERS.remove(&tid);
    if let Some(thread) = known(tid) {
        let now = now();
        if is_over(thread.target, now) {
            return 0;
        }
        if is_light() {
            light::at_probe(thread, |thread| light::close(thread, u64::MAX, now));
        }
        if thread.depth > 0 {
            count(thread.target, Counter::ThreadExit);
        }
        if thread.flags & Thread::CANARY == 0
            && config(thread.target).is_some_and(|config| thread.has_polled_since(config.start_ns))
        {
            count(thread.target, Counter::Worker);
        }
        debug!(
            &ctx,
            "thread {} ends with {} open polls", thread.tid, thread.depth
        );
        health::forget_driver(thread);
        forget(tid);
    }
    0
}

/// A process executes another program. Arguments: the task, and the id of the thread that asked for
/// it (`pid_t old_pid`, `include/trace/events/sched.h`); by now that thread has become the
/// process's first one.
#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub fn sched_process_exec(ctx: RawTracePointContext) -> i32 {
    let [_, asked_by] = arguments::<2>(&ctx);
    if let Some(by) = visible() {
        debug!(&ctx, "process {} executes another program", by.tid);
        forget(current_tid());
        watch::executed(by.target);
        let kind = if asked_by as u32 == current_tid() {
            Kind::Exec
        } else {
            Kind::ExecByThread
        };
        event::process(kind, &by, now());
    }
    0
}
