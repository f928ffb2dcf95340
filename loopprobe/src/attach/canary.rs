//! A known block in a thread of loopprobe's own, under the same programs, tables and ring buffers
//! as the target's polls.

use std::{hint::black_box, time::Duration};

use loopprobe_common::config::{Site, TaskLayout};

use super::{AttachError, Kernel, PlannedImage, Role, own_file::OwnFile};
use crate::{clock::now_ns, elf::ProcAddr};

/// What [`block`] is to do, and when it did it. Its first words stand for a task's header.
#[repr(C)]
#[derive(Debug)]
struct Call {
    words: [u64; 8],
    sleep: Duration,
    block: Block,
}

/// When a block began and ended (`CLOCK_MONOTONIC`, nanoseconds).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Block {
    /// When it began.
    pub start_ns: u64,
    /// When it was over.
    pub end_ns: u64,
}

/// Stands for `raw::poll` of a task that sleeps.
#[inline(never)]
extern "C" fn blocks(call: &mut Call) -> u64 {
    // Calling another function makes the compiler begin this one with a `push`, as it does
    // `raw::poll`.
    black_box(sleeps(black_box(call)) + 1)
}

#[inline(never)]
fn sleeps(call: &mut Call) -> u64 {
    call.block.start_ns = now_ns();
    std::thread::sleep(call.sleep);
    call.block.end_ns = now_ns();
    black_box(call).words[0]
}

/// Blocks the calling thread for this long, in a function that is probed by
/// [`Kernel::attach_canary`].
pub(crate) fn block(time: Duration) -> Block {
    let mut call = Call {
        words: [7; 8],
        sleep: time,
        block: Block::default(),
    };
    black_box(black_box(blocks as extern "C" fn(&mut Call) -> u64)(
        black_box(&mut call),
    ));
    call.block
}

/// The probes of loopprobe's own function.
pub(super) fn image(cookie: u32, roles: &[Role]) -> Result<PlannedImage, AttachError> {
    let address = ProcAddr(blocks as *const () as u64);
    let own = OwnFile::open(address)?;
    let (mut site, _) = own.site(address)?;
    site.probe.cookie = u64::from(cookie);
    Ok(site.with(roles))
}

/// What the programs know of the function: a site of its own, and a task type of its own that no
/// plan has.
pub(super) fn site(task_type: u32) -> Site {
    Site {
        task: TaskLayout {
            index: task_type,
            flags: TaskLayout::FLAG_NO_HEADER,
            ..TaskLayout::default()
        },
        ..Site::default()
    }
}

impl Kernel {
    /// Probes the function of loopprobe's own that blocks, beside the target's. Its polls are of a
    /// task type of their own, and count where [`Kernel::follow`] names their thread.
    ///
    /// # Errors
    ///
    /// [`AttachError`].
    pub(crate) fn attach_canary(&mut self) -> Result<(), AttachError> {
        self.share_canary(|site, task_type| {
            Ok((
                self::site(task_type),
                image(site, &[Role::PollExit, Role::PollEnter])?,
            ))
        })
    }
}
