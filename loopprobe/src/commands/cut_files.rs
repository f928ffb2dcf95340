//! Survives that a file which is mapped into loopprobe's own memory is cut short.

use std::{io, ptr};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// Pages on x86-64, in bytes.
const PAGE: usize = 4096;

/// From now on a page that its file no longer has reads as nothing but zeros, instead of ending
/// this process.
///
/// loopprobe reads files and does not map them, but for blazesym, which maps those that root alone
/// may write to. An update that writes over a library in place cuts it short for a moment. Programs
/// that are started from here do not inherit this: execve(2) takes handlers away.
pub(super) fn survive() {
    let flags = SaFlags::SA_SIGINFO | SaFlags::SA_ONSTACK | SaFlags::SA_RESTART;
    let action = SigAction::new(SigHandler::SigAction(on_sigbus), flags, SigSet::empty());
    // SAFETY: the handler calls nothing that may not be called in one (signal-safety(7)). The
    // standard library's own, which it replaces, tells of stacks that overflow; on Linux they end
    // in SIGSEGV, which it keeps.
    let _ = unsafe { sigaction(Signal::SIGBUS, &action) };
}

extern "C" fn on_sigbus(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel passes what happened to a handler that was set with `SA_SIGINFO`.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr()) };
    // `BUS_ADRERR`: behind the end of a mapped file (`mm/filemap.c`, `filemap_fault`, Linux 6.18).
    // Others are memory that is broken, or sent by somebody.
    if code == libc::BUS_ADRERR && zero_page_at(address) {
        return;
    }
    // SAFETY: signal(2) may be called in a handler. What it was about happens again, and ends this
    // process as it would have without a handler.
    unsafe { libc::signal(libc::SIGBUS, libc::SIG_DFL) };
}

/// Puts a page of zeros where an address lies. Whether that went well.
fn zero_page_at(address: *mut libc::c_void) -> bool {
    let page = address.map_addr(|address| address & !(PAGE - 1));
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
    let before = io::Error::last_os_error().raw_os_error().unwrap_or(0);
    // SAFETY: mmap(2) is a system call and may be made in a handler. The page is one that could not
    // be read, so nothing is lost; it belongs to a mapping that is only read.
    let mapped = unsafe { libc::mmap(page, PAGE, libc::PROT_READ, flags, -1, 0) };
    // SAFETY: `errno` is this thread's own; who was interrupted may be about to read it.
    unsafe { *libc::__errno_location() = before };
    !ptr::eq(mapped, libc::MAP_FAILED)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use memmap2::Mmap;
    use nix::sys::memfd::{MFdFlags, memfd_create};

    use super::*;

    #[test]
    fn what_is_cut_off_reads_as_zeros() {
        survive();
        let file = File::from(memfd_create(c"test", MFdFlags::MFD_CLOEXEC).unwrap());
        std::os::unix::fs::FileExt::write_all_at(&file, &[7; 3 * PAGE], 0).unwrap();
        // SAFETY: that the file changes is what this is about.
        let map = unsafe { Mmap::map(&file) }.unwrap();
        file.set_len(PAGE as u64).unwrap();
        // SAFETY: the pointer is the mapping's own. The compiler must not think that it knows.
        let read = |at: usize| unsafe { map.as_ptr().add(at).read_volatile() };
        assert_eq!([0, PAGE, 3 * PAGE - 1].map(read), [7, 0, 0]);
    }
}
