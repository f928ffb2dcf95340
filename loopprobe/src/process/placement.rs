//! What the names of a process's control groups tell.

use std::fs;

use super::about::{container, container_name};
use crate::model::Placement;

/// The paths of a process's control groups, one a hierarchy; none if it is gone.
pub fn cgroups(pid: u32) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    paths(&text).map(str::to_owned).collect()
}

/// Where the machine has put a process.
pub fn placement(pid: u32) -> Placement {
    let groups = cgroups(pid);
    let parts = || groups.iter().flat_map(|path| path.rsplit('/'));
    Placement {
        unit: parts().find_map(unit).map(str::to_owned),
        container: container(pid).filter(|name| !name.is_empty()),
        pod: parts().find_map(pod),
    }
}

fn paths(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| line.splitn(3, ':').nth(2))
}

/// A service or a scope of systemd's; a container's scope is no unit that anybody has named.
fn unit(part: &str) -> Option<&str> {
    let is_unit = part.ends_with(".service") || part.ends_with(".scope");
    (is_unit && container_name(part).is_none()).then_some(part)
}

/// Kubernetes' name for a pod's group: `pod<uid>`, or `kubepods-burstable-pod<uid>.slice` with `_`
/// for `-` (`pkg/kubelet/cm/pod_container_manager_linux.go`).
fn pod(part: &str) -> Option<String> {
    const UID: usize = 36;
    let bare = part.strip_suffix(".slice").unwrap_or(part);
    let (_, uid) = bare.rsplit_once("pod")?;
    let uid = uid.replace('_', "-");
    let is_uid = uid.len() == UID && uid.bytes().all(|c| c.is_ascii_hexdigit() || c == b'-');
    is_uid.then_some(uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_those_of_systemd() {
        let innermost = |path: &'static str| path.rsplit('/').find_map(unit);
        assert_eq!(innermost("/system.slice/api.service"), Some("api.service"));
        assert_eq!(
            innermost("/user.slice/user-1000.slice/user@1000.service/app.slice/run-7.scope"),
            Some("run-7.scope")
        );
        let id = "3f2a9c1b7d5e4f60813f2a9c1b7d5e4f60813f2a9c1b7d5e4f6081aabbccddee";
        assert_eq!(unit(&format!("docker-{id}.scope")), None);
        assert_eq!(innermost("/system.slice"), None);
    }

    #[test]
    fn pods_are_known_by_both_ways_of_naming_them() {
        let uid = "8b3c1e7a-0f4d-4c7e-9a51-2f6d1b7e9c02";
        assert_eq!(pod(&format!("pod{uid}")).as_deref(), Some(uid));
        let slice = format!("kubepods-burstable-pod{}.slice", uid.replace('-', "_"));
        assert_eq!(pod(&slice).as_deref(), Some(uid));
        assert_eq!(pod("pod1"), None);
        assert_eq!(pod("kubepods-burstable.slice"), None);
    }

    #[test]
    fn a_line_of_each_hierarchy_is_read() {
        let text = "12:pids:/a:b\n1:name=systemd:/system.slice/x.service\n0::/c\n";
        let all: Vec<_> = paths(text).collect();
        assert_eq!(all, ["/a:b", "/system.slice/x.service", "/c"]);
        assert!(!cgroups(std::process::id()).is_empty());
    }
}
