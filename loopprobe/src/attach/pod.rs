//! Values that the kernel side has written, from their bytes.

/// The value at the beginning of `bytes`; `None` if there are too few.
pub(crate) fn read<T: aya::Pod>(bytes: &[u8]) -> Option<T> {
    let bytes = bytes.get(..size_of::<T>())?;
    // SAFETY: there are enough bytes, alignment does not matter to this read, and every bit pattern
    // is a valid `Pod`.
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}
