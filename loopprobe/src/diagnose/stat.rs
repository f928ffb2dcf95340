//! What is known of a file without asking another machine: a server that does not answer must not
//! stop loopprobe too.

use std::{ffi::CString, mem::MaybeUninit};

/// File systems whose server is elsewhere, or a process that may wait for ours, by the beginning of
/// their name in `/proc/PID/mountinfo`.
const REMOTE: [&str; 9] = [
    "nfs", "cifs", "smb", "fuse", "9p", "ceph", "afs", "autofs", "lustre",
];

/// What `stat` tells of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) inode: u64,
    pub(super) mode: u32,
}

impl Stat {
    /// As the kernel knows it already (`AT_STATX_DONT_SYNC`). The path is walked all the same: a
    /// link in `/proc/PID/fd` leads to an open file without a walk.
    pub(super) fn cached(path: &str) -> Option<Self> {
        let path = CString::new(path).ok()?;
        let mut found = MaybeUninit::<libc::statx>::uninit();
        let flags = libc::AT_STATX_DONT_SYNC | libc::AT_NO_AUTOMOUNT;
        let wanted = libc::STATX_TYPE | libc::STATX_INO;
        // SAFETY: the path ends with a NUL, and the kernel fills the structure.
        let result = unsafe {
            libc::statx(
                libc::AT_FDCWD,
                path.as_ptr(),
                flags,
                wanted,
                found.as_mut_ptr(),
            )
        };
        // SAFETY: it was filled if that did not fail.
        let found = (result == 0).then(|| unsafe { found.assume_init() })?;
        Some(Self {
            inode: found.stx_ino,
            mode: u32::from(found.stx_mode),
        })
    }

    pub(super) fn is_pipe(self) -> bool {
        self.mode & libc::S_IFMT == libc::S_IFIFO
    }
}

/// Whether a path lies in a file system of this machine, by a process's mounts
/// (`/proc/PID/mountinfo`).
pub(super) fn is_local(mounts: &str, path: &str) -> bool {
    type_of(mounts, path).is_some_and(|kind| !is_remote(kind))
}

fn is_remote(kind: &str) -> bool {
    REMOTE.iter().any(|remote| kind.starts_with(remote))
}

/// The file system that a path lies in: that of the longest mount point above it, the last of
/// several (`36 35 98:0 / /mnt rw,noatime master:1 - ext4 /dev/root rw`, proc_pid_mountinfo(5)).
fn type_of<'a>(mounts: &'a str, path: &str) -> Option<&'a str> {
    let mounts = mounts.lines().filter_map(|line| {
        let (mount, source) = line.split_once(" - ")?;
        let point = mount.split(' ').nth(4)?;
        Some((point, source.split(' ').next()?))
    });
    let above = mounts.filter(|(point, _)| {
        let rest = path.strip_prefix(point.trim_end_matches('/'));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    });
    above
        .max_by_key(|(point, _)| point.len())
        .map(|(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_path_lies_in_the_file_system_mounted_last_above_it() {
        let mounts = "21 1 0:19 / / rw - ext4 /dev/vda rw\n\
                      22 21 0:20 / /srv rw,noatime shared:1 - nfs4 box:/srv rw\n\
                      23 22 0:21 / /srv/run rw - tmpfs tmpfs rw\n";
        for (path, expected) in [
            ("/etc/hosts", "ext4"),
            ("/srv", "nfs4"),
            ("/srv/x", "nfs4"),
            ("/srv/run/pipe", "tmpfs"),
            ("/srvx", "ext4"),
        ] {
            assert_eq!(type_of(mounts, path), Some(expected), "{path}");
        }
        assert!(is_remote("nfs4") && is_remote("fuse.sshfs") && !is_remote("tmpfs"));
        let own = fs::read_to_string("/proc/self/mountinfo").expect("a table");
        assert!(is_local(&own, "/proc/self/status"));
        assert!(!is_local("", "/etc/hosts"));
    }

    #[test]
    fn what_is_known_of_a_file_is_what_stat_tells() {
        use std::os::unix::fs::MetadataExt as _;
        let told = fs::metadata("/proc/self/exe").expect("this program");
        let expected = Stat {
            inode: told.ino(),
            mode: told.mode(),
        };
        assert_eq!(Stat::cached("/proc/self/exe"), Some(expected));
        assert_eq!(Stat::cached("/no/such/file"), None);
    }
}
