//! Who called sudo, by its environment: whom new files and child processes are to belong to.

use std::{ffi::CString, io, path::PathBuf, process::Command};

use nix::unistd::{Gid, Uid, User, geteuid, getgrouplist, setgroups, setresgid, setresuid};

/// Who called sudo.
#[derive(Clone, Debug)]
pub(super) struct InvokingUser {
    uid: Uid,
    gid: Gid,
    groups: Vec<libc::gid_t>,
    name: Option<String>,
    home: Option<PathBuf>,
}

impl InvokingUser {
    /// The user that sudo names, if this process is root on that user's behalf.
    pub(super) fn from_sudo() -> Option<Self> {
        let (uid, gid) = ids()?;
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        let user = User::from_uid(uid).ok().flatten();
        let groups = user
            .as_ref()
            .and_then(|user| getgrouplist(&CString::new(user.name.as_str()).ok()?, gid).ok())
            .unwrap_or_else(|| vec![gid]);
        Some(Self {
            uid,
            gid,
            groups: groups.into_iter().map(Gid::as_raw).collect(),
            name: user.as_ref().map(|user| user.name.clone()),
            home: user.map(|user| user.dir),
        })
    }

    /// The user's own HOME, USER and LOGNAME, which sudo has replaced.
    pub(super) fn environment(&self) -> Vec<(String, String)> {
        let home = self.home.as_ref().and_then(|home| home.to_str());
        let name = self.name.as_deref();
        [("HOME", home), ("USER", name), ("LOGNAME", name)]
            .into_iter()
            .filter_map(|(variable, value)| Some((variable.to_owned(), value?.to_owned())))
            .collect()
    }

    /// Gives a command that environment.
    pub(super) fn set_environment(&self, command: &mut Command) {
        command.envs(self.environment());
    }

    /// Turns this process into one of the user's, for good. Makes system calls only: safe between
    /// fork and exec.
    ///
    /// # Errors
    ///
    /// What the kernel gives.
    pub(super) fn become_user(&self) -> io::Result<()> {
        // The raw calls, as libc's own would reach for the other threads, which do not exist after
        // a fork. SAFETY: the pointer and length are those of a live vector; the other arguments
        // are integers.
        unsafe {
            check(libc::syscall(
                libc::SYS_setgroups,
                self.groups.len(),
                self.groups.as_ptr(),
            ))?;
            let gid = self.gid.as_raw();
            check(libc::syscall(libc::SYS_setresgid, gid, gid, gid))?;
            let uid = self.uid.as_raw();
            check(libc::syscall(libc::SYS_setresuid, uid, uid, uid))
        }
    }

    /// The same for every thread of this process.
    ///
    /// # Errors
    ///
    /// What the kernel gives.
    pub(super) fn become_user_everywhere(&self) -> nix::Result<()> {
        let groups: Vec<Gid> = self.groups.iter().copied().map(Gid::from_raw).collect();
        setgroups(&groups)?;
        setresgid(self.gid, self.gid, self.gid)?;
        setresuid(self.uid, self.uid, self.uid)
    }
}

/// User and group that sudo was called by. `None` unless this process is root on somebody's behalf.
pub(super) fn ids() -> Option<(u32, u32)> {
    if !geteuid().is_root() {
        return None;
    }
    let number = |name: &str| std::env::var(name).ok()?.parse().ok();
    Some((number("SUDO_UID")?, number("SUDO_GID")?))
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
