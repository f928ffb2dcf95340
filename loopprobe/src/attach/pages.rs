//! The pages of a file in which probes will lie.

use std::{collections::BTreeSet, fs::File, io, os::unix::fs::FileExt as _};

/// x86_64's, and the smallest that other machines have.
const PAGE: u64 = 4096;
/// So many bytes of the instruction the kernel copies (`MAX_UINSN_BYTES` in
/// `arch/x86/include/asm/uprobes.h`): they can lie in two pages.
const COPIED: u64 = 16;

/// Has the pages read into the page cache, as any reader of the file does. The kernel reads those
/// that are missing when it places probes, by a way (`read_mapping_page` in
/// `kernel/events/uprobes.c`) on which ext4 with CONFIG_EXT4_DEBUG warns since Linux 6.16.
///
/// # Errors
///
/// Of reading. That the file ends before is none: the kernel looks at that itself.
pub(super) fn read(file: &File, offsets: impl Iterator<Item = u64>) -> io::Result<()> {
    let pages: BTreeSet<u64> = offsets
        .flat_map(|offset| [offset / PAGE, offset.saturating_add(COPIED - 1) / PAGE])
        .collect();
    for page in pages {
        file.read_at(&mut [0], page * PAGE)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, os::fd::AsRawFd as _};

    use super::*;

    const PAGES: usize = 8;

    /// Which pages of the file are in the page cache.
    fn resident(file: &File) -> Vec<usize> {
        let length = PAGES * PAGE as usize;
        let mut found = [0_u8; PAGES];
        // SAFETY: a new mapping, not accessed, taken away again; room for a byte a page.
        unsafe {
            let (flags, fd) = (libc::MAP_SHARED, file.as_raw_fd());
            let map = libc::mmap(std::ptr::null_mut(), length, libc::PROT_READ, flags, fd, 0);
            assert_ne!(map, libc::MAP_FAILED);
            assert_eq!(libc::mincore(map, length, found.as_mut_ptr()), 0);
            libc::munmap(map, length);
        }
        (0..PAGES).filter(|page| found[*page] & 1 == 1).collect()
    }

    #[test]
    fn pages_of_probes_are_in_the_page_cache_afterwards() {
        // Beside the test program: temporary folders are often in memory, where pages are always
        // there.
        let beside = std::env::current_exe().unwrap();
        let path = beside.with_extension(format!("pages-{}", std::process::id()));
        let mut file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .unwrap();
        std::fs::remove_file(&path).unwrap();
        file.write_all(&[1; PAGES * PAGE as usize]).unwrap();
        file.sync_all().unwrap();
        // Random access keeps the kernel from reading what is not asked for.
        for advice in [libc::POSIX_FADV_RANDOM, libc::POSIX_FADV_DONTNEED] {
            // SAFETY: an open descriptor; no memory is involved.
            let advised = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, advice) };
            assert_eq!(advised, 0);
        }
        assert_eq!(resident(&file), [0; 0], "this test could not fail");
        // The second one's instruction may lie in two pages; the last one is behind the end of the
        // file.
        read(&file, [2 * PAGE + 5, 6 * PAGE - 1, 1 << 40].into_iter()).unwrap();
        assert_eq!(resident(&file), [2, 5, 6]);
    }
}
