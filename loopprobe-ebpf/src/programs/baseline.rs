//! Probes that do nothing: what entering and leaving a probe costs alone, to compare with.

use aya_ebpf::{
    macros::{uprobe, uretprobe},
    programs::{ProbeContext, RetProbeContext},
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
