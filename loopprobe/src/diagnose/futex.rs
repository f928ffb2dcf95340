//! What a futex is, by the value that a thread waits for: all that a program without symbols says.

use super::{RawSyscall, operation::Operation};

/// `FUTEX_CMD_MASK`: the operation without its flags (`include/uapi/linux/futex.h`).
const COMMAND: u64 = 127;
const WAIT: u64 = 0;
const WAIT_BITSET: u64 = 9;

/// Locked, and somebody waits: `std::sys::sync::mutex::futex` and the C library's low-level lock
/// have the same number.
const CONTENDED: u32 = 2;
/// `std::sys::sync::thread_parking::futex::PARKED`.
const PARKED: u32 = u32::MAX;
/// Of `std::sys::sync::rwlock::futex`: somebody waits to read or to write.
const RWLOCK_WAITING: u32 = 0b11 << 30;
/// Of the same: the bits that count readers, all set where a writer has it.
const RWLOCK_COUNT: u32 = (1 << 30) - 1;

/// What waits with these arguments, if the value tells.
pub(crate) fn by_value(call: &RawSyscall) -> Option<Operation> {
    if call.number != 202 || !matches!(call.args[1] & COMMAND, WAIT | WAIT_BITSET) {
        return None;
    }
    match call.args[2] as u32 {
        CONTENDED => Some(Operation::Lock("mutex")),
        PARKED => Some(Operation::ThreadWait("park")),
        value if value & RWLOCK_WAITING != 0 && value & RWLOCK_COUNT == RWLOCK_COUNT => {
            Some(Operation::Lock("rwlock"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_awaited_value_tells_what_it_is() {
        const PRIVATE: u64 = 128;
        let of = |operation, value| {
            by_value(&RawSyscall {
                number: 202,
                args: [0x1000, operation, value, 0, 0, 0],
            })
        };
        assert_eq!(of(PRIVATE | WAIT_BITSET, 2), Some(Operation::Lock("mutex")));
        assert_eq!(
            of(PRIVATE, 0xffff_ffff),
            Some(Operation::ThreadWait("park"))
        );
        assert_eq!(of(PRIVATE, 0x7fff_ffff), Some(Operation::Lock("rwlock")));
        assert_eq!(of(PRIVATE, 7), None);
        assert_eq!(of(PRIVATE | 1, 2), None);
    }
}
