//! Which processes there are, and which have a name or a text in their command line.

use std::fs;

use super::{
    about::command,
    ancestors,
    facts::{first_thread, program},
};

/// All processes that `/proc` shows, in the order of their ids. Threads are not among them.
///
/// # Errors
///
/// If `/proc` is not there.
pub fn all() -> std::io::Result<Vec<u32>> {
    let mut pids: Vec<u32> = fs::read_dir("/proc")?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    pids.sort_unstable();
    Ok(pids)
}

/// The processes with a name: that of the executable's file, or the one that the first thread
/// carries (which the kernel cuts after 15 bytes). loopprobe itself is left out.
///
/// # Errors
///
/// If `/proc` is not there.
pub fn by_name(wanted: &str) -> std::io::Result<Vec<u32>> {
    let own = std::process::id();
    let mut pids = all()?;
    pids.retain(|&pid| pid != own && has_name(pid, wanted));
    Ok(pids)
}

/// The processes whose command line, its arguments joined by spaces, contains `wanted`. loopprobe
/// itself and the processes above it are left out: `sudo loopprobe attach --name api` has that text
/// in its own.
///
/// # Errors
///
/// If `/proc` is not there.
pub fn by_command(wanted: &str) -> std::io::Result<Vec<u32>> {
    let own = std::process::id();
    let above = ancestors(own);
    let mut pids = all()?;
    pids.retain(|&pid| {
        pid != own && !above.contains(&pid) && command(pid).join(" ").contains(wanted)
    });
    Ok(pids)
}

fn has_name(pid: u32, wanted: &str) -> bool {
    first_thread(pid).is_ok_and(|name| name == wanted)
        || program(pid).is_ok_and(|path| path.file_name().is_some_and(|file| file == wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_itself_among_all_but_not_by_name() {
        let pid = std::process::id();
        assert!(all().unwrap().contains(&pid));
        let exe = std::env::current_exe().unwrap();
        assert_eq!(program(pid).unwrap(), exe);
        let own_name = exe.file_name().unwrap().to_str().unwrap();
        assert!(has_name(pid, own_name));
        assert!(!by_name(own_name).unwrap().contains(&pid));
    }

    #[test]
    fn finds_a_child_by_its_programs_name() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let found = by_name("sleep").unwrap().contains(&child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found);
    }

    #[test]
    fn finds_a_child_but_not_a_parent_by_the_command_line() {
        let wanted = "60.0625 7.0625";
        let mut child = std::process::Command::new("sleep")
            .args(wanted.split(' '))
            .spawn()
            .unwrap();
        while command(child.id()).first().map(String::as_str) != Some("sleep") {
            std::thread::yield_now();
        }
        let found = by_command(wanted).unwrap();
        let above = ancestors(child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found, [child.id()]);
        assert_eq!(above.first(), Some(&std::process::id()));
    }
}
