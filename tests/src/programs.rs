//! The eBPF programs that a process holds, as the kernel has compiled them.

use std::fs;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use anyhow::{Context as _, Result, ensure};

/// `BPF_PROG_GET_FD_BY_ID` and `BPF_OBJ_GET_INFO_BY_FD` of `enum bpf_cmd`
/// (`include/uapi/linux/bpf.h`).
const GET_FD: libc::c_long = 13;
const GET_INFO: libc::c_long = 15;

/// One program.
#[derive(Debug)]
pub struct Program {
    /// Its name.
    pub name: String,
    /// Its machine code.
    pub code: Vec<u8>,
}

/// `struct bpf_prog_info` as far as it is needed (`include/uapi/linux/bpf.h`).
#[repr(C)]
#[derive(Default)]
struct Info {
    kind_and_id: [u32; 2],
    tag: u64,
    code_len: u32,
    translated_len: u32,
    code: u64,
    translated: u64,
    load_time: u64,
    uid: u32,
    maps: u32,
    map_ids: u64,
    name: [u8; 16],
}

/// The programs that the process `pid` holds by descriptors.
///
/// # Errors
/// When the kernel does not show them.
pub fn of(pid: u32) -> Result<Vec<Program>> {
    let mut programs = Vec::new();
    for descriptor in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        let text = fs::read_to_string(descriptor?.path()).unwrap_or_default();
        let id = text.lines().find_map(|line| line.strip_prefix("prog_id:"));
        // A link names its program too.
        if let Some(id) = id.filter(|_| !text.contains("link_id")) {
            programs.push(program(id.trim().parse()?)?);
        }
    }
    Ok(programs)
}

fn program(id: u32) -> Result<Program> {
    let mut attributes = [id, 0, 0];
    // SAFETY: the kernel reads the array, whose size is given.
    let fd = unsafe {
        bpf(
            GET_FD,
            attributes.as_mut_ptr().cast(),
            size_of_val(&attributes),
        )
    }?;
    // SAFETY: the kernel has just made it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    let mut code = vec![0; 1 << 17];
    let mut info = Info {
        code_len: code.len() as u32,
        code: code.as_mut_ptr() as u64,
        ..Info::default()
    };
    let mut attributes = [
        fd.as_raw_fd() as u64 | (size_of::<Info>() as u64) << 32,
        &raw mut info as u64,
    ];
    // SAFETY: the kernel writes to `info` and, at most its length, to `code`; both live on.
    unsafe {
        bpf(
            GET_INFO,
            attributes.as_mut_ptr().cast(),
            size_of_val(&attributes),
        )
    }?;
    ensure!(info.code != 0, "the kernel does not show compiled code");
    code.truncate(info.code_len as usize);
    let name = info.name.split(|byte| *byte == 0).next();
    Ok(Program {
        name: String::from_utf8_lossy(name.context("a name")?).into_owned(),
        code,
    })
}

/// # Safety
/// The attributes must be those of the command, and `size` bytes.
unsafe fn bpf(
    command: libc::c_long,
    attributes: *mut libc::c_void,
    size: usize,
) -> Result<libc::c_long> {
    // SAFETY: as the caller promises.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size) };
    ensure!(result >= 0, "bpf(2): {}", std::io::Error::last_os_error());
    Ok(result)
}
