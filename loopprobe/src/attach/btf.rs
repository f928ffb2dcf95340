//! Offsets of the few kernel fields that the programs read, from the running kernel's own
//! description (`/sys/kernel/btf/vmlinux`). The format: `Documentation/bpf/btf.rst` (Linux 6.18).

use std::sync::OnceLock;

use super::AttachError;

/// Offsets in `struct task_struct`, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TaskOffsets {
    /// `pid`: the thread's id.
    pub pid: u64,
    /// `tgid`: the process's id.
    pub tgid: u64,
    /// `__state` (`state` before Linux 5.14): 0 if the task runs or is to run.
    pub state: u64,
    /// `se.sum_exec_runtime`: how long the task has been on a CPU, in nanoseconds; exact while it
    /// is switched off or on one.
    pub cpu_time: u64,
    /// `se.prev_sum_exec_runtime`: the same when the task was given its CPU last (`set_next_entity`
    /// in `kernel/sched/fair.c`; Linux 5.15 and 6.18). `cpu_time` again where a kernel keeps none:
    /// then nobody is known to have had a CPU for any time.
    pub picked: u64,
    /// `thread.fsbase`: the thread pointer of x86-64; 0 on other machines.
    pub fsbase: u64,
    /// `flags`.
    pub flags: u64,
    /// `jobctl`.
    pub jobctl: u64,
    /// The 32 bits that `in_memstall` lies in; 0 for a kernel without pressure stall information.
    pub memstall: u64,
    /// Which of them it is.
    pub memstall_mask: u32,
    /// `memcg_nr_pages_over_high`; 0 for a kernel without control groups of memory.
    pub over_high: u64,
    /// `memcg_in_oom`; 0 for a kernel without those of version 1.
    pub in_oom: u64,
    /// The way from a task to what a descriptor stands for: `task_struct.files`,
    /// `files_struct.fdt`, `fdtable.fd`, `file.f_inode`, `inode.i_mode`, `inode.i_ino`. All 0 if
    /// the kernel does not describe one of them.
    pub file_path: [u64; 6],
}

impl TaskOffsets {
    /// Reads them from the running kernel, once.
    ///
    /// # Errors
    ///
    /// [`AttachError::Btf`] if the kernel has no description, [`AttachError::BtfMissing`] if it
    /// lacks a field.
    pub(super) fn of_this_kernel() -> Result<Self, AttachError> {
        static KNOWN: OnceLock<TaskOffsets> = OnceLock::new();
        if let Some(known) = KNOWN.get() {
            return Ok(*known);
        }
        let read = Self::read()?;
        Ok(*KNOWN.get_or_init(|| read))
    }

    fn read() -> Result<Self, AttachError> {
        let data = std::fs::read("/sys/kernel/btf/vmlinux").map_err(AttachError::Btf)?;
        let btf = Btf::new(&data).ok_or(AttachError::BtfMissing("valid header"))?;
        let member = |name, what| {
            btf.member_offset("task_struct", name)
                .ok_or(AttachError::BtfMissing(what))
        };
        let entity = member("se", "task_struct.se")?;
        let in_entity = |name| Some(entity + btf.member_offset("sched_entity", name)?);
        let cpu_time = in_entity("sum_exec_runtime")
            .ok_or(AttachError::BtfMissing("sched_entity.sum_exec_runtime"))?;
        let optional = |name| btf.member_offset("task_struct", name).unwrap_or(0);
        let thread = btf.member_offset("task_struct", "thread");
        let fsbase = btf.member_offset("thread_struct", "fsbase");
        let memstall = btf.member_bit("task_struct", "in_memstall");
        Ok(Self {
            fsbase: thread
                .zip(fsbase)
                .map_or(0, |(thread, fsbase)| thread + fsbase),
            flags: optional("flags"),
            jobctl: optional("jobctl"),
            memstall: memstall.map_or(0, |bit| bit / 32 * 4),
            memstall_mask: memstall.map_or(0, |bit| 1 << (bit % 32)),
            over_high: optional("memcg_nr_pages_over_high"),
            in_oom: optional("memcg_in_oom"),
            file_path: btf.file_path().unwrap_or_default(),
            pid: member("pid", "task_struct.pid")?,
            tgid: member("tgid", "task_struct.tgid")?,
            state: member("__state", "task_struct.__state")
                .or_else(|_| member("state", "task_struct.state"))?,
            cpu_time,
            picked: in_entity("prev_sum_exec_runtime").unwrap_or(cpu_time),
        })
    }
}

/// The id of the kernel function that a program which goes through tasks is attached to; read once.
///
/// # Errors
///
/// As [`TaskOffsets::of_this_kernel`].
pub(super) fn task_iterator() -> Result<u32, AttachError> {
    const NAME: &str = "bpf_iter_task";
    static KNOWN: OnceLock<u32> = OnceLock::new();
    if let Some(known) = KNOWN.get() {
        return Ok(*known);
    }
    let data = std::fs::read("/sys/kernel/btf/vmlinux").map_err(AttachError::Btf)?;
    let btf = Btf::new(&data).ok_or(AttachError::BtfMissing("valid header"))?;
    let found = btf.find(KIND_FUNC, NAME);
    let (id, _) = found.ok_or(AttachError::BtfMissing(NAME))?;
    Ok(*KNOWN.get_or_init(|| id))
}

struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
}

const KIND_INT: u32 = 1;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_FUNC: u32 = 12;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_VAR: u32 = 14;
const KIND_DATASEC: u32 = 15;
const KIND_DECL_TAG: u32 = 17;
const KIND_ENUM64: u32 = 19;

impl<'a> Btf<'a> {
    fn new(data: &'a [u8]) -> Option<Self> {
        let header_len = word(data, 4)? as usize;
        let section = |offset, len| {
            let start = header_len.checked_add(word(data, offset)? as usize)?;
            data.get(start..start.checked_add(word(data, len)? as usize)?)
        };
        (data.get(..2)? == 0xeb9fu16.to_le_bytes()).then_some(())?;
        Some(Self {
            types: section(8, 12)?,
            strings: section(16, 20)?,
        })
    }

    /// See [`TaskOffsets::file_path`].
    fn file_path(&self) -> Option<[u64; 6]> {
        Some([
            self.member_offset("task_struct", "files")?,
            self.member_offset("files_struct", "fdt")?,
            self.member_offset("fdtable", "fd")?,
            self.member_offset("file", "f_inode")?,
            self.member_offset("inode", "i_mode")?,
            self.member_offset("inode", "i_ino")?,
        ])
    }

    /// A direct member's offset in bytes.
    fn member_offset(&self, structure: &str, member: &str) -> Option<u64> {
        Some(self.member_bit(structure, member)? / 8)
    }

    /// The same in bits: members of one bit share their byte.
    fn member_bit(&self, structure: &str, member: &str) -> Option<u64> {
        let (_, at) = self.find(KIND_STRUCT, structure)?;
        let info = word(self.types, at + 4)?;
        self.member(at + 12, (info & 0xffff) as usize, info >> 31 == 1, member)
    }

    /// A type's id, and where its description begins.
    fn find(&self, kind: u32, name: &str) -> Option<(u32, usize)> {
        let mut at = 0;
        for id in 1.. {
            let (name_at, info) = (word(self.types, at)?, word(self.types, at + 4)?);
            let (this, count) = ((info >> 24) & 0x1f, (info & 0xffff) as usize);
            if this == kind && self.is(name_at, name) {
                return Some((id, at));
            }
            at += 12
                + match this {
                    KIND_INT | KIND_VAR | KIND_DECL_TAG => 4,
                    KIND_ARRAY => 12,
                    KIND_STRUCT | KIND_UNION | KIND_DATASEC | KIND_ENUM64 => 12 * count,
                    KIND_ENUM | KIND_FUNC_PROTO => 8 * count,
                    _ => 0,
                };
        }
        None
    }

    fn member(&self, at: usize, count: usize, bitfields: bool, name: &str) -> Option<u64> {
        for i in 0..count {
            let at = at + 12 * i;
            if self.is(word(self.types, at)?, name) {
                let bits = word(self.types, at + 8)?;
                return Some(u64::from(if bitfields { bits & 0xff_ffff } else { bits }));
            }
        }
        None
    }

    fn is(&self, offset: u32, name: &str) -> bool {
        self.strings
            .get(offset as usize..)
            .and_then(|s| s.strip_prefix(name.as_bytes()))
            .is_some_and(|rest| rest.first() == Some(&0))
    }
}

fn word(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(
        data.get(at..at.checked_add(4)?)?.try_into().ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anything_else_is_refused() {
        assert!(Btf::new(b"").is_none());
        assert!(Btf::new(&[0; 64]).is_none());
    }

    #[test]
    fn the_running_kernel_has_neighbouring_ids() {
        // `pid_t pid; pid_t tgid;` have stood side by side since Linux 2.6
        // (`include/linux/sched.h`).
        if let Ok(offsets) = TaskOffsets::of_this_kernel() {
            assert_eq!(offsets.tgid, offsets.pid + 4);
        }
    }
}
