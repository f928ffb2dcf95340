//! Finds task vtables by their shape: no symbols, no section headers.

use crate::elf::{Image, VirtAddr};

/// Which words a task vtable has. Source: `tokio/src/runtime/task/raw.rs` of each version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum VtableLayout {
    /// 1.23 and later: seven functions (poll, schedule, dealloc, try_read_output,
    /// drop_join_handle_slow, drop_abort_handle, shutdown) and three offsets (trailer, scheduler,
    /// id).
    Seven {
        /// `tokio_unstable` builds of 1.46 and later add the spawn location's offset.
        unstable: bool,
    },
    /// 1.21 and 1.22: eight functions (try_set_join_waker follows try_read_output, no schedule) and
    /// the trailer's offset.
    Eight,
    /// Before 1.21: functions alone. Only symbols tell them from other tables.
    Functions,
}

/// A vtable as it lies in the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawVtable {
    /// Where it lies.
    pub address: VirtAddr,
    /// Its words.
    pub layout: VtableLayout,
    /// `raw::poll<F, S>`.
    pub poll: VirtAddr,
    /// `raw::schedule<S>`, where the layout has it.
    pub schedule: Option<VirtAddr>,
    /// `raw::dealloc<F, S>`.
    pub dealloc: VirtAddr,
    /// Bytes from the header to the trailer, where the layout says.
    pub trailer_offset: Option<u32>,
    /// Bytes from the header to the scheduler, where the layout says.
    pub scheduler_offset: Option<u32>,
    /// Bytes from the header to the task's id, where the layout says.
    pub id_offset: Option<u32>,
}

impl RawVtable {
    /// Bytes that the scheduler takes: 8 for the `Arc` of an async task. `BlockingSchedule` has 0
    /// (1.23 to 1.39), 16 (from 1.40), or 24 or 32 (with `test-util`). Source:
    /// `tokio/src/runtime/blocking/schedule.rs`.
    pub fn scheduler_size(&self) -> Option<u32> {
        Some(self.id_offset? - self.scheduler_offset?)
    }
}

const WORD: u64 = 8;
/// A header takes at least this much (`state`, `queue_next`, `vtable`), so no offset is smaller.
const MIN_OFFSET: u64 = 0x18;
/// The scheduler follows the header; only its alignment can move it away, and no type is aligned to
/// more than a page.
const MAX_SCHEDULER_OFFSET: u64 = 0x1000;
/// The largest `BlockingSchedule` has 32 bytes.
const MAX_SCHEDULER_SIZE: u64 = 64;
/// Task cells are far below 2 GiB.
const MAX_TRAILER_OFFSET: u64 = 1 << 31;

/// All vtables of 1.23 and later, in ascending order.
pub(super) fn scan(image: &Image) -> Vec<RawVtable> {
    code_runs(image, 7)
        .filter_map(|run| seven(image, run))
        .collect()
}

/// All tables with the shape of 1.21's and 1.22's, in ascending order. One word of constraint lets
/// other tables pass: use it only where the image is known to contain such a version.
pub(super) fn scan_eight(image: &Image) -> Vec<RawVtable> {
    code_runs(image, 8)
        .filter_map(|run| eight(image, run))
        .collect()
}

/// `count` consecutive words that point to code.
fn code_runs(image: &Image, count: usize) -> impl Iterator<Item = Vec<(VirtAddr, VirtAddr)>> {
    let slots: Vec<_> = image
        .pointers()
        .filter(|(slot, to)| slot.0 % WORD == 0 && image.is_code(*to))
        .collect();
    (0..slots.len()).filter_map(move |first| {
        let run = slots.get(first..first + count)?;
        let is_run = run[count - 1].0.0 - run[0].0.0 == WORD * (count as u64 - 1);
        is_run.then(|| run.to_vec())
    })
}

/// A word that the loader leaves alone.
fn plain_word(image: &Image, address: u64) -> Option<u64> {
    let address = VirtAddr(address);
    // In a fixed-address image a large future's size can look like an address.
    let is_pointer = !image.has_fixed_address() && image.pointer_at(address).is_some();
    image.u64_at(address).filter(|_| !is_pointer)
}

fn seven(image: &Image, run: Vec<(VirtAddr, VirtAddr)>) -> Option<RawVtable> {
    let address = run[0].0;
    let word = |slot: u64| plain_word(image, address.0.checked_add(slot * WORD)?);
    let (trailer, scheduler, id) = (word(7)?, word(8)?, word(9)?);
    let plausible = (MIN_OFFSET..=MAX_SCHEDULER_OFFSET).contains(&scheduler)
        && (scheduler..=scheduler + MAX_SCHEDULER_SIZE).contains(&id)
        && (id + WORD..MAX_TRAILER_OFFSET).contains(&trailer)
        && [trailer, scheduler, id]
            .iter()
            .all(|offset| offset % WORD == 0);
    plausible.then(|| RawVtable {
        address,
        layout: VtableLayout::Seven {
            unstable: word(10) == Some(id + WORD),
        },
        poll: run[0].1,
        schedule: Some(run[1].1),
        dealloc: run[2].1,
        trailer_offset: Some(trailer as u32),
        scheduler_offset: Some(scheduler as u32),
        id_offset: Some(id as u32),
    })
}

fn eight(image: &Image, run: Vec<(VirtAddr, VirtAddr)>) -> Option<RawVtable> {
    let address = run[0].0;
    let word = |slot: u64| plain_word(image, address.0.checked_add(slot * WORD)?);
    let trailer = word(8)?;
    let plausible =
        (MIN_OFFSET + WORD..MAX_TRAILER_OFFSET).contains(&trailer) && trailer % WORD == 0;
    // The last function of a trait object's table, then the drop glue, size and alignment of the
    // next one.
    let next_is_trait_object = word(9).is_some_and(|align| align.is_power_of_two() && align <= 128)
        && image
            .pointer_at(VirtAddr(address.0 + 10 * WORD))
            .is_some_and(|to| image.is_code(to));
    (plausible && !next_is_trait_object).then(|| RawVtable {
        address,
        layout: VtableLayout::Eight,
        poll: run[0].1,
        schedule: None,
        dealloc: run[1].1,
        trailer_offset: Some(trailer as u32),
        scheduler_offset: None,
        id_offset: None,
    })
}
