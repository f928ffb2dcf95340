//! What tells processes of one name apart.

use std::{fs, os::unix::ffi::OsStrExt as _, path::Path, time::Duration};

use super::{Namespace, Status, facts};

/// The kernel lets a command line be as long as memory allows; nobody reads on.
const MAX_COMMAND_BYTES: u64 = 64 << 10;

/// A process for people: who started it, when, where, and as what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// Its effective user; `None` if it is gone.
    pub uid: Option<u32>,
    /// How long it has existed.
    pub age: Option<Duration>,
    /// The container that it is in, if loopprobe is not in it too: what its control group is
    /// called, or nothing where that tells no name.
    pub container: Option<String>,
    /// Its command line. A process can overwrite its own.
    pub command: Vec<String>,
}

impl About {
    /// Reads it. What cannot be read, or is gone, is left out.
    pub fn read(pid: u32) -> Self {
        Self {
            uid: Status::read(pid).ok().map(|status| status.uid),
            age: age(pid),
            container: container(pid),
            command: command(pid),
        }
    }
}

/// The command line, its arguments apart; empty for a zombie.
pub(super) fn command(pid: u32) -> Vec<String> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let read = fs::File::open(format!("/proc/{pid}/cmdline"))
        .and_then(|file| file.take(MAX_COMMAND_BYTES).read_to_end(&mut bytes));
    if read.is_err() {
        return Vec::new();
    }
    // A program that writes its title over its arguments leaves a tail of zeros.
    let end = bytes
        .iter()
        .rposition(|&byte| byte != 0)
        .map_or(0, |last| last + 1);
    if end == 0 {
        return Vec::new();
    }
    bytes[..end]
        .split(|&byte| byte == 0)
        .map(|argument| String::from_utf8_lossy(argument).into_owned())
        .collect()
}

/// The 22nd field of `/proc/PID/stat` counts clock ticks since boot (proc_pid_stat(5)), as
/// `/proc/uptime` counts seconds.
fn age(pid: u32) -> Option<Duration> {
    let started: u64 = facts::stat_field(pid, 22)?.parse().ok()?;
    // SAFETY: an integer in, an integer out.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    let ticks = u64::try_from(ticks).ok().filter(|ticks| *ticks > 0)?;
    let uptime = fs::read_to_string("/proc/uptime").ok()?;
    let up: f64 = uptime.split_ascii_whitespace().next()?.parse().ok()?;
    let up = Duration::try_from_secs_f64(up).ok()?;
    let started = Duration::from_secs(started / ticks);
    Some(up.saturating_sub(started))
}

/// A container shows in the control group's path, or else has process ids of its own.
pub(super) fn container(pid: u32) -> Option<String> {
    let group = |pid: u32| fs::read_to_string(format!("/proc/{pid}/cgroup")).ok();
    let own = group(std::process::id()).and_then(|own| named_by(&own));
    let named = group(pid).and_then(|groups| named_by(&groups));
    match named {
        Some(name) if own.as_ref() != Some(&name) => Some(name),
        Some(_) => None,
        None => Namespace::Pid
            .differs(pid)
            .unwrap_or(false)
            .then(String::new),
    }
}

/// The container's name in the text of a `cgroup` file: the innermost part of a path that names
/// one.
fn named_by(groups: &str) -> Option<String> {
    let paths = groups.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    paths
        .flat_map(|path| Path::new(path).components().rev())
        .find_map(|part| container_name(std::str::from_utf8(part.as_os_str().as_bytes()).ok()?))
}

/// Docker, containerd, CRI-O and Podman name a group by a container's id, 64 hexadecimal digits,
/// with or without a prefix and `.scope`; LXC by `lxc.payload.NAME`; systemd-nspawn by
/// `machine-NAME.scope`.
pub(super) fn container_name(part: &str) -> Option<String> {
    const ID: usize = 64;
    const SHOWN: usize = 12;
    let bare = part.strip_suffix(".scope").unwrap_or(part);
    if let Some(name) = bare.strip_prefix("lxc.payload.") {
        return Some(name.to_owned());
    }
    if let Some(name) = bare.strip_prefix("machine-").filter(|_| bare != part) {
        return Some(name.to_owned());
    }
    let (kind, id) = bare.rsplit_once('-').unwrap_or(("", bare));
    let is_id = id.len() == ID && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    // A helper of Podman's has the same id: `libpod-conmon-<id>.scope` holds no container.
    (is_id && !kind.ends_with("conmon")).then(|| id[..SHOWN].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "3f2a9c1b7d5e4f60813f2a9c1b7d5e4f60813f2a9c1b7d5e4f6081aabbccddee";

    #[test]
    fn knows_how_runtimes_name_their_groups() {
        for (path, name) in [
            (
                format!("0::/system.slice/docker-{ID}.scope"),
                "3f2a9c1b7d5e",
            ),
            (format!("12:pids:/docker/{ID}\n0::/"), "3f2a9c1b7d5e"),
            (
                format!(
                    "0::/kubepods.slice/kubepods-burstable.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope"
                ),
                "3f2a9c1b7d5e",
            ),
            (
                format!("0::/machine.slice/libpod-{ID}.scope/container"),
                "3f2a9c1b7d5e",
            ),
            (
                "0::/lxc.payload.web/system.slice/x.service".to_owned(),
                "web",
            ),
            (
                "0::/machine.slice/machine-deb.scope/payload".to_owned(),
                "deb",
            ),
        ] {
            assert_eq!(named_by(&path).as_deref(), Some(name), "{path}");
        }
        for path in [
            "0::/".to_owned(),
            "0::/user.slice/user-1000.slice/session-2.scope".to_owned(),
            format!("0::/machine.slice/libpod-conmon-{ID}.scope"),
            "0::/system.slice/machine-check.service".to_owned(),
        ] {
            assert_eq!(named_by(&path), None, "{path}");
        }
    }

    #[test]
    fn reads_a_child() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        // Before it has executed its program it is still this one.
        while command(child.id()).first().map(String::as_str) != Some("sleep") {
            std::thread::yield_now();
        }
        let about = About::read(child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(about.command, ["sleep", "60"]);
        assert_eq!(about.uid, Some(nix::unistd::geteuid().as_raw()));
        assert!(about.age.unwrap() < Duration::from_secs(60), "{about:?}");
        assert_eq!(about.container, None);
    }
}
