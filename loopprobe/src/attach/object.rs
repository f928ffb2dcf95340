//! The kernel side, compiled: `cargo xtask build-ebpf` makes it from `loopprobe-ebpf`, once a
//! processor.

/// The object file, aligned as an ELF parser wants it.
#[cfg(not(target_arch = "aarch64"))]
pub(super) static OBJECT: &[u8] = aya::include_bytes_aligned!("../../bpf/loopprobe.bpf.o");
/// The same for aarch64.
#[cfg(target_arch = "aarch64")]
pub(super) static OBJECT: &[u8] = aya::include_bytes_aligned!("../../bpf/loopprobe.aarch64.bpf.o");
