//! One step of a walk through code without call frame information.
//!
//! Two things tell where the return address lies: the code, read forward to its return, and the
//! frame pointer. Neither is believed unless what lies there is an address that a call returns to.

use super::{
    flow::{Base, FramePointer, Place},
    way_out::WayOut,
};
use crate::unwind::{frame::Means, host::Stuck};

/// A frame as it stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    pub sp: u64,
    pub bp: u64,
}

/// The frame's caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    pub return_address: u64,
    pub sp: u64,
    pub bp: u64,
    pub by: Means,
}

/// The caller of a frame in code without call frame information. `read` gives words of the stack;
/// `is_proven` says whether the word at an address, with its value, is a return address.
pub(crate) fn caller(
    standing: Standing,
    way_out: Option<WayOut>,
    read: &impl Fn(u64) -> Option<u64>,
    is_proven: &mut impl FnMut(u64, u64) -> bool,
) -> Result<Caller, Stuck> {
    let mut proven = |found: Option<Caller>| {
        found
            .filter(|found| found.sp > standing.sp && is_proven(found.sp - 8, found.return_address))
    };
    let told = proven(way_out.and_then(|way| by_code(standing, way, read)));
    let pointed = proven(by_frame_pointer(standing, read));
    match (told, pointed) {
        (Some(told), Some(pointed)) if told.sp == pointed.sp => Ok(pointed),
        // A function that keeps no frame pointer leaves its caller's: that one lies above.
        (Some(told), Some(pointed)) if told.sp < pointed.sp => Ok(told),
        // What was taken for the way out was another function's, or the frame pointer is none.
        (Some(_), Some(_)) => Err(Stuck::Unproven),
        (Some(found), None) | (None, Some(found)) => Ok(found),
        (None, None) if is_aligned(standing) && read(standing.bp.wrapping_add(8)).is_none() => {
            Err(Stuck::Unread(standing.bp))
        }
        (None, None) => Err(Stuck::Unproven),
    }
}

fn is_aligned(standing: Standing) -> bool {
    standing.bp >= standing.sp && standing.bp.is_multiple_of(8)
}

fn by_frame_pointer(standing: Standing, read: &impl Fn(u64) -> Option<u64>) -> Option<Caller> {
    if !is_aligned(standing) {
        return None;
    }
    let slot = standing.bp.checked_add(8)?;
    Some(Caller {
        return_address: read(slot)?,
        sp: slot.checked_add(8)?,
        bp: read(standing.bp)?,
        by: Means::FramePointers,
    })
}

fn by_code(standing: Standing, way: WayOut, read: &impl Fn(u64) -> Option<u64>) -> Option<Caller> {
    let address = |place: Place| {
        let base = match place.base {
            Base::Sp => standing.sp,
            Base::Bp if is_aligned(standing) => standing.bp,
            Base::Bp => return None,
        };
        base.checked_add_signed(place.offset)
    };
    let slot = address(way.return_address).filter(|slot| slot.is_multiple_of(8))?;
    let bp = match way.frame_pointer {
        FramePointer::Loaded(place) => read(address(place)?)?,
        FramePointer::At(_) => standing.bp,
        FramePointer::Unknown => return None,
    };
    Some(Caller {
        return_address: read(slot)?,
        sp: slot.checked_add(8)?,
        bp,
        by: Means::Searched,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL_RETURNS: u64 = 0x40_0000;

    fn read(words: &[u64]) -> impl Fn(u64) -> Option<u64> {
        move |at| {
            words
                .get(usize::try_from(at.checked_sub(0x1000)? / 8).ok()?)
                .copied()
        }
    }

    fn returns(_: u64, value: u64) -> bool {
        value >= CALL_RETURNS
    }

    const RETURN: WayOut = WayOut {
        return_address: Place {
            base: Base::Sp,
            offset: 0,
        },
        frame_pointer: FramePointer::At(Place {
            base: Base::Bp,
            offset: 0,
        }),
    };

    #[test]
    fn a_frame_pointer_must_lead_to_a_return_address() {
        let standing = Standing {
            sp: 0x1000,
            bp: 0x1008,
        };
        let words = [0, 0x1020, CALL_RETURNS, 0];
        let found = caller(standing, None, &read(&words), &mut returns).expect("a caller");
        assert_eq!(
            (found.sp, found.bp, found.by),
            (0x1018, 0x1020, Means::FramePointers)
        );
        let stale = [0, 0x1020, 17, 0];
        assert_eq!(
            caller(standing, None, &read(&stale), &mut returns),
            Err(Stuck::Unproven)
        );
        let misaligned = Standing {
            sp: 0x1000,
            bp: 0x100c,
        };
        assert_eq!(
            caller(misaligned, None, &read(&words), &mut returns),
            Err(Stuck::Unproven)
        );
        let below = Standing {
            sp: 0x1010,
            bp: 0x1008,
        };
        assert_eq!(
            caller(below, None, &read(&words), &mut returns),
            Err(Stuck::Unproven)
        );
        let far = Standing {
            sp: 0x1000,
            bp: 0x9000,
        };
        assert_eq!(
            caller(far, None, &read(&words), &mut returns),
            Err(Stuck::Unread(0x9000))
        );
    }

    #[test]
    fn a_function_without_a_frame_is_not_skipped() {
        let standing = Standing {
            sp: 0x1000,
            bp: 0x1008,
        };
        let words = [CALL_RETURNS + 1, 0x1020, CALL_RETURNS, 0];
        let found = caller(standing, Some(RETURN), &read(&words), &mut returns).expect("a caller");
        assert_eq!(
            (found.sp, found.bp, found.by),
            (0x1008, 0x1008, Means::Searched)
        );
    }
}
