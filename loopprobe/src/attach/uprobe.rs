//! Placing probes: one `uprobe_multi` link for all sites of a file, which aya 0.14 does not know,
//! or else a perf event a site.

use std::{
    ffi::{CStr, CString},
    io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
};

use aya_obj::generated::{bpf_attach_type, bpf_attr, bpf_cmd, perf_event_attr};

use super::{
    AttachError, apart, pages,
    sys::{Purpose, bpf, owned},
};
use crate::process::ImageFile;

/// What a probe's program does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// The return of `raw::poll`. The only return probe: elsewhere a panic could pass it, which
    /// would abort the target.
    PollExit,
    /// The entry of `raw::poll` of an async task.
    PollEnter,
    /// The entry of `raw::poll` of a closure on the blocking pool.
    BlockingEnter,
    /// The entry of `epoll_wait`.
    EpollEnter,
    /// The entry of `tokio::runtime::park::Inner::park` and of `park_timeout`.
    ParkEnter,
    /// The entry of `CachedParkThread::block_on`.
    BlockOnEnter,
    /// Where a task is scheduled.
    ScheduleEnter,
    /// A return that does nothing, to compare with.
    BaselineExit,
    /// An entry that does nothing, to compare with.
    BaselineEnter,
}

impl Role {
    /// All of them, in the order in which they are attached: returns before entries, so that no
    /// poll is left open.
    pub const ALL: [Self; 9] = [
        Self::PollExit,
        Self::PollEnter,
        Self::BlockingEnter,
        Self::EpollEnter,
        Self::ParkEnter,
        Self::BlockOnEnter,
        Self::ScheduleEnter,
        Self::BaselineExit,
        Self::BaselineEnter,
    ];

    /// The program's name in the object.
    pub const fn program(self) -> &'static str {
        match self {
            Self::PollExit => "poll_exit",
            Self::PollEnter => "poll_enter",
            Self::BlockingEnter => "blocking_enter",
            Self::EpollEnter => "epoll_enter",
            Self::ParkEnter => "park_enter",
            Self::BlockOnEnter => "block_on_enter",
            Self::ScheduleEnter => "schedule_enter",
            Self::BaselineExit => "baseline_exit",
            Self::BaselineEnter => "baseline_enter",
        }
    }

    /// Whether the probe is at the function's return.
    pub const fn is_return(self) -> bool {
        matches!(self, Self::PollExit | Self::BaselineExit)
    }
}

/// One probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Where in the file.
    pub offset: u64,
    /// What the program gets to know it by: the index of its site, or, where tasks are scheduled,
    /// where a task's header is ([`loopprobe_common::wake::HeaderPlace`]).
    pub cookie: u64,
}

/// How probes are placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// One link for all probes of a file (Linux 6.6 and later).
    Multi,
    /// One perf event a probe.
    PerfEvent,
}

impl Method {
    /// What programs are loaded for.
    pub const fn purpose(self) -> Purpose {
        match self {
            Self::Multi => Purpose::UprobeMulti,
            Self::PerfEvent => Purpose::PerfEvent,
        }
    }
}

/// Placed probes; dropping removes them.
#[derive(Debug, Default)]
pub struct Links {
    multi: Vec<OwnedFd>,
    single: Vec<OwnedFd>,
}

/// How many processes close perf events at a time: the kernel waits about 0.1 s for each, and the
/// waits overlap.
const CLOSERS: usize = 64;

impl Links {
    /// Takes over another's probes.
    pub fn append(&mut self, mut other: Self) {
        self.multi.append(&mut other.multi);
        self.single.append(&mut other.single);
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        let _removal = apart::removal();
        // Entries were attached last; taken off first, they leave no poll open.
        while let Some(link) = self.multi.pop() {
            apart::close(vec![vec![link]]);
        }
        let mut parts: Vec<Vec<OwnedFd>> = (0..CLOSERS.min(self.single.len()))
            .map(|_| Vec::new())
            .collect();
        for (number, link) in self.single.drain(..).enumerate() {
            parts[number % CLOSERS].push(link);
        }
        if !parts.is_empty() {
            apart::close(parts);
        }
    }
}

/// Whether the kernel has `uprobe_multi` links: where it does, it looks at the file, and a
/// directory is not one (`bpf_uprobe_multi_link_attach` in `kernel/trace/bpf_trace.c`, Linux 6.6).
/// Nothing is placed.
pub(super) fn knows_multi(program: &OwnedFd) -> bool {
    multi_link(program, Role::PollEnter, c"/", &[0], &[0], 0)
        .is_err_and(|error| error.raw_os_error() == Some(libc::EBADF))
}

/// Places probes, with the pages that they lie in read before. `pid` 0 means every process.
///
/// # Errors
///
/// [`AttachError::Probe`]; for [`Method::Multi`] with `EINVAL` or `EOPNOTSUPP` inside where the
/// kernel does not know it.
pub(super) fn attach(
    method: Method,
    program: &OwnedFd,
    role: Role,
    file: &ImageFile,
    probes: &[Probe],
    pid: u32,
) -> Result<Links, AttachError> {
    let path = file.path();
    let links = || {
        pages::read(&file.file, probes.iter().map(|probe| probe.offset))?;
        let path = CString::new(path.as_os_str().as_bytes())?;
        match method {
            Method::Multi => attach_multi(program, role, &path, probes, pid),
            Method::PerfEvent => attach_perf_events(program, role, &path, probes, pid),
        }
    };
    links().map_err(|source| AttachError::Probe {
        // A name for people: the path is that of a descriptor.
        path: std::fs::read_link(&path).unwrap_or_else(|_| path.clone()),
        count: probes.len(),
        source,
    })
}

fn attach_multi(
    program: &OwnedFd,
    role: Role,
    file: &CStr,
    probes: &[Probe],
    pid: u32,
) -> io::Result<Links> {
    let offsets: Vec<u64> = probes.iter().map(|p| p.offset).collect();
    let cookies: Vec<u64> = probes.iter().map(|p| p.cookie).collect();
    let mut links = Links::default();
    // SAFETY: one system call, on memory that exists.
    unsafe {
        apart::make(1, &mut links.multi, |_| {
            multi_link(program, role, file, &offsets, &cookies, pid)
        })?;
    }
    Ok(links)
}

/// Makes a system call and nothing else.
fn multi_link(
    program: &OwnedFd,
    role: Role,
    file: &CStr,
    offsets: &[u64],
    cookies: &[u64],
    pid: u32,
) -> io::Result<OwnedFd> {
    const RETURN: u32 = 1; // BPF_F_UPROBE_MULTI_RETURN
    debug_assert_eq!(offsets.len(), cookies.len());
    // SAFETY: all-zero is a valid `bpf_attr`.
    let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
    attr.link_create.__bindgen_anon_1.prog_fd = program.as_raw_fd() as u32;
    attr.link_create.attach_type = bpf_attach_type::BPF_TRACE_UPROBE_MULTI as u32;
    attr.link_create.__bindgen_anon_3.uprobe_multi.path = file.as_ptr() as u64;
    attr.link_create.__bindgen_anon_3.uprobe_multi.offsets = offsets.as_ptr() as u64;
    attr.link_create.__bindgen_anon_3.uprobe_multi.cookies = cookies.as_ptr() as u64;
    attr.link_create.__bindgen_anon_3.uprobe_multi.cnt = offsets.len() as u32;
    attr.link_create.__bindgen_anon_3.uprobe_multi.flags =
        if role.is_return() { RETURN } else { 0 };
    attr.link_create.__bindgen_anon_3.uprobe_multi.pid = pid;
    bpf(bpf_cmd::BPF_LINK_CREATE, &mut attr)
}

fn attach_perf_events(
    program: &OwnedFd,
    role: Role,
    file: &CStr,
    probes: &[Probe],
    pid: u32,
) -> io::Result<Links> {
    let kind = perf_uprobe_type()?;
    let mut links = Links::default();
    // SAFETY: two system calls each, on memory that exists.
    unsafe {
        apart::make(probes.len(), &mut links.single, |number| {
            let Probe { offset, cookie } = probes[number];
            let event = perf_uprobe(kind, role, file, offset, pid)?;
            perf_link(program, &event, cookie)
        })?;
    }
    Ok(links)
}

/// The kernel's number for uprobe events.
fn perf_uprobe_type() -> io::Result<u32> {
    let text = std::fs::read_to_string("/sys/bus/event_source/devices/uprobe/type")?;
    text.trim().parse().map_err(io::Error::other)
}

fn perf_uprobe(kind: u32, role: Role, file: &CStr, offset: u64, pid: u32) -> io::Result<OwnedFd> {
    const FD_CLOEXEC: u64 = 8; // PERF_FLAG_FD_CLOEXEC
    // SAFETY: all-zero is a valid `perf_event_attr`.
    let mut attr: perf_event_attr = unsafe { std::mem::zeroed() };
    attr.size = size_of::<perf_event_attr>() as u32;
    attr.type_ = kind;
    // Bit 0 of the configuration asks for the return (PERF_PROBE_CONFIG_IS_RETPROBE in
    // `kernel/events/core.c`).
    attr.config = u64::from(role.is_return());
    attr.__bindgen_anon_3.uprobe_path = file.as_ptr() as u64;
    attr.__bindgen_anon_4.probe_offset = offset;
    let (pid, cpu) = if pid == 0 { (-1, 0) } else { (pid as i32, -1) };
    // SAFETY: the kernel reads `attr`, whose size is in it, and the path, which outlives the call.
    owned(unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attr,
            pid,
            cpu,
            -1,
            FD_CLOEXEC,
        )
    })
}

/// The link keeps the event alive.
fn perf_link(program: &OwnedFd, event: &OwnedFd, cookie: u64) -> io::Result<OwnedFd> {
    // SAFETY: all-zero is a valid `bpf_attr`.
    let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
    attr.link_create.__bindgen_anon_1.prog_fd = program.as_raw_fd() as u32;
    attr.link_create.__bindgen_anon_2.target_fd = event.as_raw_fd() as u32;
    attr.link_create.attach_type = bpf_attach_type::BPF_PERF_EVENT as u32;
    attr.link_create.__bindgen_anon_3.perf_event.bpf_cookie = cookie;
    bpf(bpf_cmd::BPF_LINK_CREATE, &mut attr)
}
