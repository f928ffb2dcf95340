//! Programs that do nothing: what entering and leaving them costs alone, to compare with.

use aya_ebpf::{
    macros::{raw_tracepoint, uprobe, uretprobe},
    programs::{ProbeContext, RawTracePointContext, RetProbeContext},
};

/// An entry.
#[uprobe]
pub fn baseline_enter(_ctx: ProbeContext) -> u32 {
    0
}

/// A return.
#[uretprobe]
pub fn baseline_exit(_ctx: RetProbeContext) -> u32 {
    0
}

/// A context switch.
#[raw_tracepoint(tracepoint = "sched_switch")]
pub fn baseline_switch(_ctx: RawTracePointContext) -> i32 {
    0
}
