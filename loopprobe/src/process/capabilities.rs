//! Which Linux capabilities a session needs, what for, and which this thread lacks.

use caps::{CapSet, Capability};

/// A capability that every session needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Needed {
    capability: Capability,
    /// As capabilities(7) writes it.
    pub name: &'static str,
    /// What for.
    pub purpose: &'static str,
}

/// What a session needs.
pub(crate) const NEEDED: [Needed; 3] = [
    Needed {
        capability: Capability::CAP_BPF,
        name: "CAP_BPF",
        purpose: "loading eBPF programs",
    },
    Needed {
        capability: Capability::CAP_PERFMON,
        name: "CAP_PERFMON",
        purpose: "probes and samples",
    },
    Needed {
        capability: Capability::CAP_SYS_PTRACE,
        name: "CAP_SYS_PTRACE",
        purpose: "processes of other users, and those that changed their user or have capabilities",
    },
];

impl Needed {
    /// Whether this thread has it.
    pub(crate) fn is_there(&self) -> bool {
        has(self.capability)
    }
}

/// Those of [`NEEDED`] that this thread lacks, by name.
pub(crate) fn missing() -> Vec<&'static str> {
    let missing = NEEDED.iter().filter(|needed| !needed.is_there());
    missing.map(|needed| needed.name).collect()
}

/// Whether this thread may open files that were replaced since a process mapped them.
pub(crate) fn opens_replaced_files() -> bool {
    has(Capability::CAP_CHECKPOINT_RESTORE)
}

/// Whether this thread may look into processes of others.
pub(crate) fn traces_others() -> bool {
    has(Capability::CAP_SYS_PTRACE)
}

/// CAP_SYS_ADMIN stands for those that were split off it (`include/linux/capability.h`, Linux
/// 6.18).
fn has(capability: Capability) -> bool {
    let effective = |capability| caps::has_cap(None, CapSet::Effective, capability);
    let split_off = matches!(
        capability,
        Capability::CAP_BPF | Capability::CAP_PERFMON | Capability::CAP_CHECKPOINT_RESTORE
    );
    effective(capability).unwrap_or(false)
        || (split_off && effective(Capability::CAP_SYS_ADMIN).unwrap_or(false))
}
