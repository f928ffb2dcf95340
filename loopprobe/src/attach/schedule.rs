//! The probes where tasks are scheduled.

use loopprobe_common::wake::HeaderPlace;

use super::Probe;
use crate::{code::ArgumentPoint, elf::VirtAddr, runtime::SchedulePoint};

/// Of some points; the cookie says where a task's header is.
pub(super) fn probes(points: &[SchedulePoint]) -> Vec<Probe> {
    let probe = |point: &SchedulePoint| Probe {
        offset: point.offset.0,
        cookie: header_place(&point.at).cookie(),
    };
    points.iter().map(probe).collect()
}

/// Where a task's header is when it is scheduled, as the kernel side is told.
fn header_place(at: &ArgumentPoint) -> HeaderPlace {
    let distance = |to: VirtAddr| to.0.wrapping_sub(at.address.0) as i32;
    HeaderPlace {
        register: at.register,
        offset: at.offset,
        guard: at
            .guard
            .map(|(register, address)| (register, distance(address))),
    }
}
