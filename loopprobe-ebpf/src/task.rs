//! What a task's header says: its type, its id, its scheduler.

use core::mem::MaybeUninit;

use aya_ebpf::helpers::{bpf_probe_read_user, generated::bpf_probe_read_user as probe_read_user};
use loopprobe_common::{
    config::{Site, TaskLayout, UNKNOWN_TYPE, relative, vtable_key},
    counters::Counter,
    thread::OpenPoll,
};

use crate::maps::{SITES, VTABLES, count, is_light};

/// Words of the header that are read in one go. From Tokio 1.23 on, and without `tokio_unstable`
/// and over-aligned futures, the vtable (word 2), the scheduler (word 4) and the task's id (word 5)
/// are all among them.
const WORDS: usize = 6;
const VTABLE: usize = 2;
const SCHEDULER: usize = 4;
const ID: usize = 5;

/// What a header says of its task.
pub struct Task {
    pub index: u32,
    pub flags: u32,
    pub id_offset: u32,
    pub id: u64,
    pub scheduler: u64,
}

impl Task {
    /// Counts why nothing is known of a task.
    #[inline(always)]
    pub fn unknown(target: u32, why: Counter) -> Self {
        count(target, why);
        Self {
            index: UNKNOWN_TYPE,
            flags: 0,
            id_offset: 0,
            id: 0,
            scheduler: 0,
        }
    }

    /// What is known of a task before its header is read, if its site serves one type only.
    #[inline(always)]
    pub fn unread(site: &Site) -> Self {
        Self {
            index: site.task.index,
            flags: site.task.flags,
            id_offset: site.task.id_offset,
            id: 0,
            scheduler: 0,
        }
    }
}

/// Reads the header of an open poll's task if that has not been done: the task is alive as long as
/// its poll runs.
///
/// A poll is open for a moment longer, until its return probe runs. A poll long enough to be
/// reported has been read before that.
#[inline(never)]
pub fn read_late(target: u32, poll: &mut OpenPoll) {
    if poll.flags & OpenPoll::UNREAD == 0 {
        return;
    }
    let Some(site) = SITES.get(poll.site) else {
        return;
    };
    poll.flags &= !OpenPoll::UNREAD;
    let task = match identify(poll.header, poll.probe, poll.site, site) {
        Ok(task) => task,
        // The poll may have ended, and the task be gone. What is known of it stays.
        Err(_) if is_light() => return,
        Err(why) => Task::unknown(target, why),
    };
    poll.task_id = task.id;
    poll.scheduler = task.scheduler;
    poll.task_type = task.index;
    if task.flags & TaskLayout::FLAG_BOXED != 0 {
        keep_stage(target, poll, task.id_offset);
    }
}

/// Reads the task's header: which type it is of, its id, its scheduler. `probe` is the address of
/// the site `cookie`'s probe.
///
/// # Errors
///
/// The counter of what went wrong.
#[inline(always)]
pub fn identify(
    header: u64,
    probe: u64,
    cookie: u32,
    site: &'static Site,
) -> Result<Task, Counter> {
    let mut words = MaybeUninit::<[u64; WORDS]>::uninit();
    // SAFETY: the helper writes the given size to `words`, zeros if the address is bad.
    let failed = unsafe {
        probe_read_user(
            words.as_mut_ptr().cast(),
            size_of_val(&words) as u32,
            header as *const _,
        )
    };
    if failed != 0 {
        return without_header(site).ok_or(Counter::Unreadable);
    }
    // SAFETY: the helper has filled it.
    let words = unsafe { words.assume_init_ref() };
    let vtable = relative(words[VTABLE], probe);
    let layout = if vtable == site.vtable {
        &site.task
    } else {
        // SAFETY: elements of this map are never deleted while programs run.
        match unsafe { VTABLES.get(&vtable_key(u64::from(cookie), vtable)) } {
            Some(layout) => layout,
            None => return without_header(site).ok_or(Counter::UnknownType),
        }
    };
    Ok(Task {
        index: layout.index,
        flags: layout.flags,
        id_offset: layout.id_offset,
        id: field(header, layout.id_offset, ID, words[ID]),
        scheduler: field(header, layout.scheduler_offset, SCHEDULER, words[SCHEDULER]),
    })
}

/// A task of a site whose tasks have no header. Asked last: what a header says comes first.
#[inline(always)]
fn without_header(site: &Site) -> Option<Task> {
    (site.task.flags & TaskLayout::FLAG_NO_HEADER != 0).then(|| Task::unread(site))
}

/// A word of the header: the one that has been read if it is at its usual place, else read now. 0
/// if there is none.
#[inline(always)]
fn field(header: u64, offset: u32, usual: usize, word: u64) -> u64 {
    if offset as usize == usual * 8 {
        return word;
    }
    if offset == 0 {
        return 0;
    }
    // SAFETY: the helper fails on a bad address.
    unsafe { bpf_probe_read_user((header + u64::from(offset)) as *const u64) }.unwrap_or(0)
}

/// Keeps the beginning of the task's future, which lies behind the task's id: if the poll completes
/// the task, it is gone.
#[inline(always)]
pub fn keep_stage(target: u32, poll: &mut OpenPoll, id_offset: u32) {
    let stage = poll.header + u64::from(id_offset) + 8;
    // SAFETY: the helper writes the given size to the field, zeros if the address is bad.
    let failed = unsafe {
        probe_read_user(
            poll.stage.as_mut_ptr().cast(),
            size_of_val(&poll.stage) as u32,
            stage as *const _,
        )
    };
    if failed != 0 {
        count(target, Counter::Unreadable);
    }
}
