//! What differs between processors. aya-ebpf takes `bpf_target_arch` from the same flag; without
//! it, the object is for x86_64.

#[cfg(bpf_target_arch = "aarch64")]
mod aarch64;
#[cfg(bpf_target_arch = "aarch64")]
pub use aarch64::*;

#[cfg(not(bpf_target_arch = "aarch64"))]
mod x86_64;
#[cfg(not(bpf_target_arch = "aarch64"))]
pub use x86_64::*;
