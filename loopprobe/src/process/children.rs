//! All processes below one, and all above it, by the parents that `/proc/PID/stat` names.

use super::{all, facts::stat_field};

/// The processes below a process: its children, theirs, and so on, by id. A process whose parent
/// has ended is below it no more.
///
/// # Errors
///
/// If `/proc` is not there.
pub fn descendants(pid: u32) -> std::io::Result<Vec<u32>> {
    let parents: Vec<(u32, u32)> = all()?
        .into_iter()
        .filter_map(|pid| Some((pid, parent(pid)?)))
        .collect();
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        let children = parents.iter().filter(|(_, of)| *of == parent);
        let new: Vec<u32> = children
            .map(|(child, _)| *child)
            .filter(|child| !found.contains(child))
            .collect();
        found.extend(new);
        next += 1;
    }
    found.remove(0);
    found.sort_unstable();
    Ok(found)
}

/// The processes above a process: its parent, that one's, and so on.
pub fn ancestors(pid: u32) -> Vec<u32> {
    let mut found = Vec::new();
    let mut next = parent(pid);
    while let Some(above) = next.filter(|above| *above != 0 && !found.contains(above)) {
        found.push(above);
        next = parent(above);
    }
    found
}

fn parent(pid: u32) -> Option<u32> {
    stat_field(pid, 4)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_child_and_its_child() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "sleep 60 & echo $!; wait"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let out = child.stdout.take().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).unwrap();
        let inner: u32 = line.trim().parse().unwrap();
        let found = descendants(std::process::id()).unwrap();
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(inner.cast_signed()),
            nix::sys::signal::Signal::SIGKILL,
        )
        .unwrap();
        child.wait().unwrap();
        assert!(found.contains(&child.id()) && found.contains(&inner));
        assert!(!found.contains(&std::process::id()));
    }
}
