//! What eBPF leaves in the kernel: links, programs, maps and pinned objects, asked from the kernel
//! itself.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

/// Other sessions on the machine come and go; what nobody holds is freed within a grace period of
/// the kernel.
const PATIENCE: Duration = Duration::from_mins(1);

/// `BPF_*_GET_NEXT_ID` of `enum bpf_cmd` (`include/uapi/linux/bpf.h`), by the name of its kind in
/// `/proc/PID/fdinfo`.
const KINDS: [(&str, libc::c_long); 3] = [("prog_id", 11), ("map_id", 12), ("link_id", 31)];

/// The eBPF objects that exist at some moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Objects {
    ids: BTreeSet<(&'static str, u32)>,
    pinned: BTreeSet<String>,
}

impl Objects {
    /// Those that exist now.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn now() -> Result<Objects> {
        let mut objects = Objects::default();
        for (kind, command) in KINDS {
            let mut last = 0;
            while let Some(id) = next(command, last)? {
                objects.ids.insert((kind, id));
                last = id;
            }
        }
        pinned(Path::new("/sys/fs/bpf"), &mut objects.pinned);
        Ok(objects)
    }

    /// How many there are that `before` does not have.
    pub fn new_since(&self, before: &Objects) -> usize {
        self.ids.difference(&before.ids).count()
    }

    /// Waits until nothing is left of what came since `before`, but for what other living processes
    /// hold.
    ///
    /// # Errors
    /// When something is left.
    pub fn are_gone_since(before: &Objects) -> Result<()> {
        let suspects = Objects::now()?;
        let suspects: BTreeSet<_> = suspects.ids.difference(&before.ids).copied().collect();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = Objects::now()?;
            let held = held()?;
            let left: Vec<_> = suspects
                .intersection(&now.ids)
                .filter(|id| !held.contains(id))
                .collect();
            if left.is_empty() {
                ensure!(
                    now.pinned.is_subset(&before.pinned),
                    "pinned: {:?}",
                    now.pinned
                );
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "left in the kernel: {left:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// The object with the next higher id, if there is one.
fn next(command: libc::c_long, after: u32) -> Result<Option<u32>> {
    // `start_id`, `next_id` and `open_flags` of `union bpf_attr`.
    let mut attributes = [after, 0, 0];
    // SAFETY: the kernel reads and writes the array, whose size is given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            attributes.as_mut_ptr(),
            size_of_val(&attributes),
        )
    };
    if result == 0 {
        return Ok(Some(attributes[1]));
    }
    let error = std::io::Error::last_os_error();
    ensure!(
        error.raw_os_error() == Some(libc::ENOENT),
        "bpf(2): {error}"
    );
    Ok(None)
}

fn pinned(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            pinned(&entry.path(), found);
        } else {
            found.insert(entry.path().display().to_string());
        }
    }
}

/// What living processes hold by a descriptor.
fn held() -> Result<BTreeSet<(&'static str, u32)>> {
    let mut held = BTreeSet::new();
    for process in fs::read_dir("/proc")?.flatten() {
        // Processes and descriptors end while they are listed.
        for descriptor in fs::read_dir(process.path().join("fdinfo"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let text = fs::read_to_string(descriptor.path()).unwrap_or_default();
            for line in text.lines() {
                for (kind, _) in KINDS {
                    if let Some(id) = line
                        .strip_prefix(kind)
                        .and_then(|rest| rest.strip_prefix(":"))
                        && let Ok(id) = id.trim().parse()
                    {
                        held.insert((kind, id));
                    }
                }
            }
        }
    }
    Ok(held)
}
