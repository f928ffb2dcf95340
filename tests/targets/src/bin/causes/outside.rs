//! What two of the causes need around the process: a name server that answers late, a CPU quota.
//! Both need root.

use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::LONG_MS;

/// A loopback address that nothing else uses.
const NAME_SERVER: &str = "127.53.53.53";
/// Microseconds of CPU in each period of 100 ms.
const QUOTA_US: u64 = 10_000;

/// What the control groups' names begin with.
const GROUP: &str = "causes-";

/// Undone when dropped.
pub struct Outside {
    group: Option<PathBuf>,
}

impl Outside {
    /// Gives this process a `resolv.conf` of its own, in a mount namespace of its own, with a
    /// server that is late.
    pub fn name_server() -> Outside {
        let socket =
            UdpSocket::bind((NAME_SERVER, 53)).expect("port 53 of a loopback address; needs root");
        let path = std::env::temp_dir().join(format!("causes-{}-resolv.conf", std::process::id()));
        fs::write(
            &path,
            format!("nameserver {NAME_SERVER}\noptions timeout:2 attempts:1\n"),
        )
        .expect("the temporary directory can be written");
        own_mounts();
        bind(&path, Path::new("/etc/resolv.conf"));
        let _ = fs::remove_file(&path);
        std::thread::spawn(move || serve(&socket));
        become_user();
        Outside { group: None }
    }

    /// Puts this process into a control group with a small CPU quota, version 1 or 2 as mounted.
    pub fn quota() -> Outside {
        let name = format!("{GROUP}{}", std::process::id());
        remove_stale(Path::new("/sys/fs/cgroup/cpu"));
        remove_stale(Path::new("/sys/fs/cgroup"));
        let group = [quota_v1(&name), quota_v2(&name)]
            .into_iter()
            .flatten()
            .next()
            .expect("a writable cpu controller; needs root");
        fs::write(group.join("cgroup.procs"), "0").expect("this process may be moved");
        become_user();
        Outside { group: Some(group) }
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        if let Some(parent) = self.group.as_deref().and_then(Path::parent) {
            let _ = fs::write(parent.join("cgroup.procs"), "0");
        }
        if let Some(group) = &self.group {
            let _ = fs::remove_dir(group);
        }
    }
}

/// What began as root goes on as the user that the variable `TARGET_USER` names by number, as
/// daemons do.
fn become_user() {
    let Ok(user) = std::env::var("TARGET_USER") else {
        return;
    };
    let user = user.parse().expect("a number");
    // SAFETY: the list of groups is empty; the other arguments are integers.
    let result = unsafe {
        libc::setgroups(0, std::ptr::null())
            | libc::setresgid(user, user, user)
            | libc::setresuid(user, user, user)
    };
    assert_eq!(result, 0, "root may become anybody");
}

/// Removes the groups of processes that were killed; a group with a process in it stays.
fn remove_stale(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        if entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(GROUP.as_bytes())
        {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

fn quota_v1(name: &str) -> Option<PathBuf> {
    let group = Path::new("/sys/fs/cgroup/cpu").join(name);
    fs::create_dir(&group).ok()?;
    fs::write(group.join("cpu.cfs_period_us"), "100000").ok()?;
    fs::write(group.join("cpu.cfs_quota_us"), QUOTA_US.to_string()).ok()?;
    Some(group)
}

fn quota_v2(name: &str) -> Option<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    if !root.join("cgroup.controllers").exists() {
        return None;
    }
    fs::write(root.join("cgroup.subtree_control"), "+cpu").ok()?;
    let group = root.join(name);
    fs::create_dir(&group).ok()?;
    fs::write(group.join("cpu.max"), format!("{QUOTA_US} 100000")).ok()?;
    Some(group)
}

fn own_mounts() {
    // SAFETY: there is only this thread yet; the flags are valid and the paths are C strings.
    let result = unsafe {
        libc::unshare(libc::CLONE_NEWNS)
            | libc::mount(
                std::ptr::null(),
                c"/".as_ptr(),
                std::ptr::null(),
                libc::MS_REC | libc::MS_PRIVATE,
                std::ptr::null(),
            )
    };
    assert_eq!(result, 0, "a mount namespace needs root");
}

fn bind(from: &Path, to: &Path) {
    let text = |path: &Path| {
        std::ffi::CString::new(path.as_os_str().as_encoded_bytes())
            .expect("a path without a null byte")
    };
    let (from, to) = (text(from), text(to));
    // SAFETY: both are C strings that live through the call.
    let result = unsafe {
        libc::mount(
            from.as_ptr(),
            to.as_ptr(),
            std::ptr::null(),
            libc::MS_BIND,
            std::ptr::null(),
        )
    };
    assert_eq!(result, 0, "resolv.conf can be covered");
}

/// Answers each question with "no such name", late.
fn serve(socket: &UdpSocket) {
    let mut packet = [0_u8; 512];
    while let Ok((len, peer)) = socket.recv_from(&mut packet) {
        std::thread::sleep(Duration::from_millis(LONG_MS));
        if len >= 4 {
            packet[2] |= 0x80;
            packet[3] = 0x83;
            let _ = socket.send_to(&packet[..len], peer);
        }
    }
}
