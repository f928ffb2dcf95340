//! The registers of threads that are off their CPUs, through a task iterator: without stopping
//! them.

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::{AsRawFd as _, OwnedFd},
    path::Path,
};

use aya_obj::generated::{bpf_attach_type, bpf_attr, bpf_cmd};
use loopprobe_common::records::ThreadRegisters;

use super::{pod, sys::bpf};

/// `union bpf_iter_link_info` for tasks: thread id, process id, pidfd (`include/uapi/linux/bpf.h`,
/// Linux 6.1). Ids are those of the caller's pid namespace.
#[repr(C)]
#[derive(Default)]
struct TaskSelection {
    tid: u32,
    pid: u32,
    pid_fd: u32,
    unused: u32,
}

/// Runs the program over the threads of a process.
///
/// # Errors
///
/// What bpf(2) gives.
pub(super) fn read(program: &OwnedFd, pid: u32) -> io::Result<Vec<ThreadRegisters>> {
    let selection = TaskSelection {
        pid,
        ..TaskSelection::default()
    };
    match iterate(program, Some(&selection)) {
        // Before Linux 6.1 an iterator goes through all threads there are, and knows no selection
        // that is as long as this.
        Err(error) if error.raw_os_error() == Some(libc::E2BIG) => {
            let mut threads = iterate(program, None)?;
            threads.retain(|thread| {
                Path::new("/proc")
                    .join(format!("{pid}/task/{}", thread.tid))
                    .exists()
            });
            Ok(threads)
        }
        result => result,
    }
}

fn iterate(
    program: &OwnedFd,
    selection: Option<&TaskSelection>,
) -> io::Result<Vec<ThreadRegisters>> {
    // SAFETY: all-zero is a valid `bpf_attr`.
    let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
    attr.link_create.__bindgen_anon_1.prog_fd = program.as_raw_fd() as u32;
    attr.link_create.attach_type = bpf_attach_type::BPF_TRACE_ITER as u32;
    if let Some(selection) = selection {
        // SAFETY: the variant of `BPF_LINK_CREATE` for iterators; both fields are integers.
        let info = unsafe { &mut attr.link_create.__bindgen_anon_3.__bindgen_anon_1 };
        info.iter_info = std::ptr::from_ref(selection) as u64;
        info.iter_info_len = size_of::<TaskSelection>() as u32;
    }
    let link = bpf(bpf_cmd::BPF_LINK_CREATE, &mut attr)?;
    // SAFETY: all-zero is a valid `bpf_attr`.
    let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
    attr.iter_create.link_fd = link.as_raw_fd() as u32;
    let mut bytes = Vec::new();
    File::from(bpf(bpf_cmd::BPF_ITER_CREATE, &mut attr)?).read_to_end(&mut bytes)?;
    let records = bytes.chunks(size_of::<ThreadRegisters>());
    Ok(records.filter_map(pod::read).collect())
}
