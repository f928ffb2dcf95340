//! The kernel side, compiled: `cargo xtask build-ebpf` makes it from `loopprobe-ebpf`.

/// The object file, aligned as an ELF parser wants it.
pub(super) static OBJECT: &[u8] = aya::include_bytes_aligned!("../../bpf/loopprobe.bpf.o");
