//! `bpf(2)` for what aya 0.14 does not offer.

use std::{
    io,
    os::fd::{FromRawFd as _, OwnedFd, RawFd},
};

use aya_obj::generated::{bpf_attach_type, bpf_attr, bpf_cmd, bpf_insn, bpf_prog_type};

use super::AttachError;

/// What a program is to be attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A `uprobe_multi` link.
    UprobeMulti,
    /// A perf event.
    PerfEvent,
    /// An iterator; the id of its function in the kernel's type information.
    Iterator(u32),
}

/// Loads a program.
///
/// # Errors
///
/// [`AttachError::Verifier`].
pub(super) fn load(
    name: &'static str,
    instructions: &[bpf_insn],
    purpose: Purpose,
) -> Result<OwnedFd, AttachError> {
    let load = |log: &mut [u8]| {
        patiently(
            || try_load(name, instructions, purpose, log),
            io::Error::raw_os_error,
        )
    };
    load(&mut []).or_else(|_| {
        // Once more, to hear why.
        let mut log = vec![0; 1 << 20];
        load(&mut log).map_err(|source| AttachError::Verifier {
            program: name,
            source,
            log: last_lines(&log),
        })
    })
}

/// How often a program is given to a kernel that puts it off. libbpf does so as often.
const ATTEMPTS: usize = 5;

/// Loads a program; again where a signal was pending meanwhile, for which the verifier gives up
/// (`do_check` of `kernel/bpf/verifier.c`, Linux 6.18). The way back from the call takes it away.
///
/// # Errors
///
/// The last one; `errno` tells its number.
pub(super) fn patiently<T, E>(
    mut load: impl FnMut() -> Result<T, E>,
    errno: impl Fn(&E) -> Option<i32>,
) -> Result<T, E> {
    for _ in 1..ATTEMPTS {
        match load() {
            Err(error) if errno(&error) == Some(libc::EAGAIN) => {}
            result => return result,
        }
    }
    load()
}

fn try_load(
    name: &str,
    instructions: &[bpf_insn],
    purpose: Purpose,
    log: &mut [u8],
) -> io::Result<OwnedFd> {
    // SAFETY: all-zero is a valid `bpf_attr`.
    let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
    // SAFETY: the variant of `BPF_PROG_LOAD`; all its fields are integers.
    let load = unsafe { &mut attr.__bindgen_anon_3 };
    load.prog_type = match purpose {
        Purpose::Iterator(_) => bpf_prog_type::BPF_PROG_TYPE_TRACING,
        _ => bpf_prog_type::BPF_PROG_TYPE_KPROBE,
    } as u32;
    load.insns = instructions.as_ptr() as u64;
    load.insn_cnt = instructions.len() as u32;
    load.license = c"Dual MIT/GPL".as_ptr() as u64;
    match purpose {
        Purpose::UprobeMulti => {
            load.expected_attach_type = bpf_attach_type::BPF_TRACE_UPROBE_MULTI as u32;
        }
        Purpose::PerfEvent => {}
        Purpose::Iterator(function) => {
            load.expected_attach_type = bpf_attach_type::BPF_TRACE_ITER as u32;
            load.attach_btf_id = function;
        }
    }
    for (to, from) in load.prog_name.iter_mut().zip(name.bytes().take(15)) {
        *to = from as _;
    }
    if !log.is_empty() {
        load.log_level = 1;
        load.log_buf = log.as_mut_ptr() as u64;
        load.log_size = log.len() as u32;
    }
    bpf(bpf_cmd::BPF_PROG_LOAD, &mut attr)
}

fn last_lines(log: &[u8]) -> String {
    const LINES: usize = 20;
    let end = log.iter().position(|&b| b == 0).unwrap_or(log.len());
    let text = String::from_utf8_lossy(&log[..end]);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

/// A command that gives a descriptor.
///
/// # Errors
///
/// What the kernel says.
pub(super) fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<OwnedFd> {
    let size = size_of::<bpf_attr>();
    // SAFETY: `attr` is of the size given, and what it points to outlives the call.
    owned(unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as u32,
            std::ptr::from_mut(attr),
            size,
        )
    })
}

/// A command that gives nothing but what it writes to `attr`.
///
/// # Errors
///
/// What the kernel says.
pub(super) fn command(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<()> {
    let size = size_of::<bpf_attr>();
    // SAFETY: `attr` is of the size given, and what it points to outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as u32,
            std::ptr::from_mut(attr),
            size,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A new descriptor, or the error of the system call that should have given one.
///
/// # Errors
///
/// That one.
pub(super) fn owned(fd: i64) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given this descriptor to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tries(results: &[i32]) -> (Result<(), i32>, usize) {
        let mut left = results.iter();
        let mut count = 0;
        let result = patiently(
            || {
                count += 1;
                match left.next() {
                    Some(0) | None => Ok(()),
                    Some(error) => Err(*error),
                }
            },
            |error| Some(*error),
        );
        (result, count)
    }

    #[test]
    fn a_program_that_is_put_off_is_given_again_and_one_that_is_refused_is_not() {
        assert_eq!(tries(&[libc::EAGAIN, libc::EAGAIN, 0]), (Ok(()), 3));
        assert_eq!(tries(&[libc::EACCES, 0]), (Err(libc::EACCES), 1));
        let always = [libc::EAGAIN; 9];
        assert_eq!(tries(&always), (Err(libc::EAGAIN), ATTEMPTS));
    }
}
