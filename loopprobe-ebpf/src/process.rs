//! Threads and processes that end, or execute another program.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};
use aya_log_ebpf::debug;
use loopprobe_common::{counters::Counter, records::Kind};

use crate::{
    event,
    maps::{THREADS, WAKERS, count},
    poll::now,
    thread::{current_tid, known, visible_tid},
};

/// A thread ends.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub fn sched_process_exit(ctx: RawTracePointContext) -> i32 {
    let tid = current_tid();
    let _ = WAKERS.remove(&tid);
    if let Some(thread) = known(tid) {
        if thread.depth > 0 {
            count(Counter::ThreadExit);
        }
        debug!(
            &ctx,
            "thread {} ends with {} open polls", thread.tid, thread.depth
        );
        let _ = THREADS.remove(&tid);
    }
    0
}

/// A process executes another program.
#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub fn sched_process_exec(ctx: RawTracePointContext) -> i32 {
    if let Some(tid) = visible_tid() {
        debug!(&ctx, "thread {} executes another program", tid);
        let _ = THREADS.remove(&current_tid());
        event::process(Kind::Exec, tid, now());
    }
    0
}
