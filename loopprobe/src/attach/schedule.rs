//! The probes where tasks are scheduled.

use loopprobe_common::wake::HeaderPlace;

use super::Probe;
use crate::{code::ArgumentPoint, elf::VirtAddr, runtime::SchedulePoint};

/// Of some points; the cookie says where a task's header is.
pub(super) fn probes(points: &[SchedulePoint]) -> Vec<Probe> {
    let probe = |point: &SchedulePoint| {
        Some(Probe {
            offset: point.offset.0,
            cookie: header_place(&point.at)?.cookie(),
        })
    };
    points.iter().filter_map(probe).collect()
}

/// Where a task's header is when it is scheduled, as the kernel side is told. `None` in an image in
/// which a constant lies further off than it can be told.
fn header_place(at: &ArgumentPoint) -> Option<HeaderPlace> {
    let distance = |to: VirtAddr| i32::try_from(to.0.cast_signed() - at.address.0.cast_signed());
    let guard = match at.guard {
        Some((register, address)) => Some((register, distance(address).ok()?)),
        None => None,
    };
    Some(HeaderPlace {
        register: at.register,
        offset: at.offset,
        guard,
    })
}
