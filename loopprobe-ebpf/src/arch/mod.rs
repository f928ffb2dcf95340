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

/// Takes one more register into a number that differs where one of them does, but for chance. An
/// array of them would lie on the program's stack, which is small.
#[inline(always)]
fn mix(all: u64, register: u64) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15; // 2^64 / the golden ratio
    all.wrapping_mul(ODD).wrapping_add(register)
}
