//! What the kernel's verifier is told, so that it does not follow more ways through a program than
//! there is time for.

/// Keeps `value` in a map and gives it back. The verifier knows nothing of what a map holds, so
/// that from here on all the ways on which the value has come about are one for it. Else it follows
/// what comes after once for each of them.
#[inline(always)]
pub fn forget_ways<T: Copy>(kept: &mut T, value: T) -> T {
    let kept = core::ptr::from_mut(kept);
    // SAFETY: the pointer comes from a reference.
    unsafe {
        kept.write_volatile(value);
        kept.read_volatile()
    }
}
