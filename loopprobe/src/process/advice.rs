//! The privilege that reading another process lacks, and how to get it, in a clause.

use super::capabilities;

/// What lets loopprobe read a process that it was not allowed to: a clause.
///
/// In a container root may lack what root has elsewhere, and `sudo` gives it nothing.
pub fn how_to_read() -> &'static str {
    if !nix::unistd::geteuid().is_root() {
        "run loopprobe as root (sudo) or with CAP_SYS_PTRACE"
    } else if capabilities::traces_others() {
        "root may not either: it belongs to another user namespace, or a security module protects it"
    } else {
        "root lacks CAP_SYS_PTRACE here: a container gets it by `--cap-add SYS_PTRACE`, or run loopprobe on the host"
    }
}
