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

/// Registers as one number, which differs where one of them does, but for chance.
#[inline(always)]
fn mixed<const N: usize>(registers: [u64; N]) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15; // 2^64 / the golden ratio
    registers
        .into_iter()
        .fold(0, |all: u64, one| all.wrapping_mul(ODD).wrapping_add(one))
}
