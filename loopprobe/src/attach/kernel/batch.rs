//! All elements of a hash table in one system call, where aya 0.14 makes two an element.

use std::{io, os::fd::RawFd};

use aya::Pod;
use aya_obj::generated::{bpf_attr, bpf_cmd};

use crate::attach::sys;

/// How many elements are asked for at a time; more where a bucket has more.
const AT_ONCE: usize = 256;

/// The elements of a hash table. One that comes or goes meanwhile may be among them or not.
///
/// # Errors
///
/// What the kernel says of `BPF_MAP_LOOKUP_BATCH` (Linux 5.6).
pub(super) fn elements<K: Pod + Default, V: Pod + Default>(map: RawFd) -> io::Result<Vec<(K, V)>> {
    let mut keys = vec![K::default(); AT_ONCE];
    let mut values = vec![V::default(); AT_ONCE];
    let mut found = Vec::new();
    // Where the next call goes on; the kernel writes the number of a bucket.
    let mut next = 0_u64;
    loop {
        // SAFETY: all-zero is a valid `bpf_attr`.
        let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
        attr.batch.map_fd = map as u32;
        attr.batch.keys = keys.as_mut_ptr() as u64;
        attr.batch.values = values.as_mut_ptr() as u64;
        attr.batch.count = keys.len() as u32;
        attr.batch.out_batch = &raw mut next as u64;
        if !found.is_empty() {
            attr.batch.in_batch = &raw const next as u64;
        }
        let result = sys::command(bpf_cmd::BPF_MAP_LOOKUP_BATCH, &mut attr);
        let is_last = match result.as_ref().map_err(io::Error::raw_os_error) {
            Ok(()) => false,
            // So it says that there is no more.
            Err(Some(libc::ENOENT)) => true,
            Err(Some(libc::ENOSPC)) => {
                keys.resize(2 * keys.len(), K::default());
                values.resize(keys.len(), V::default());
                continue;
            }
            Err(_) => return result.map(|()| found),
        };
        // SAFETY: the variant that was written; it is all integers.
        let count = unsafe { attr.batch.count } as usize;
        found.extend(keys.iter().copied().zip(values.iter().copied()).take(count));
        if is_last || count == 0 {
            return Ok(found);
        }
    }
}
