//! Records as the kernel side writes them, read with every length checked.

use loopprobe_common::records::{
    BusyRecord, DelayRecord, DriverRecord, Kind, PollRecord, ProcessRecord, StackRecord,
    TakerRecord,
};
use loopprobe_common::watch::WatchRecord;

use crate::attach::pod;

/// One record of the ring buffer.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one at a time, of the thread that reads"
)]
pub(super) enum Record<'a> {
    /// A poll ended.
    Poll(PollRecord),
    /// A poll ended now or earlier; the answer to its question says which.
    Unsettled(PollRecord),
    /// A poll that was watched is over.
    Watched(WatchRecord),
    /// A stack, and its bytes.
    Stack(StackRecord, &'a [u8]),
    /// Who had the CPU that a poll's thread waited for.
    Taker(TakerRecord),
    /// For a long time nobody turned a driver.
    Driver(DriverRecord),
    /// A task was polled long after it had been scheduled.
    Delay(DelayRecord),
    /// The polls of a task have taken long together.
    Busy(BusyRecord),
    /// The process executed another program.
    Process(ProcessRecord),
}

impl<'a> Record<'a> {
    /// `None` if the bytes are no record: then loopprobe and its eBPF object do not belong
    /// together.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        const POLL: u32 = Kind::Poll as u32;
        const ROOT: u32 = Kind::Root as u32;
        const UNSETTLED: u32 = Kind::Unsettled as u32;
        const WATCHED: u32 = Kind::Watched as u32;
        const OFF_CPU: u32 = Kind::OffCpu as u32;
        const SAMPLE: u32 = Kind::Sample as u32;
        const SCAN: u32 = Kind::Scan as u32;
        const QUESTION: u32 = Kind::Question as u32;
        const WAKER: u32 = Kind::Waker as u32;
        const BESIDE: u32 = Kind::Beside as u32;
        const TAKER: u32 = Kind::Taker as u32;
        const PIECE: u32 = Kind::Piece as u32;
        const DRIVER: u32 = Kind::Driver as u32;
        const DELAY: u32 = Kind::Delay as u32;
        const BUSY: u32 = Kind::Busy as u32;
        const EXEC: u32 = Kind::Exec as u32;
        const EXEC_BY_THREAD: u32 = Kind::ExecByThread as u32;
        let kind = u32::from_ne_bytes(bytes.first_chunk().copied()?);
        match kind {
            POLL | ROOT => Some(Self::Poll(pod::read(bytes)?)),
            UNSETTLED => Some(Self::Unsettled(pod::read(bytes)?)),
            WATCHED => Some(Self::Watched(pod::read(bytes)?)),
            DRIVER => Some(Self::Driver(pod::read(bytes)?)),
            DELAY => Some(Self::Delay(pod::read(bytes)?)),
            BUSY => Some(Self::Busy(pod::read(bytes)?)),
            TAKER => Some(Self::Taker(pod::read(bytes)?)),
            OFF_CPU | SAMPLE | SCAN | QUESTION | WAKER | PIECE | BESIDE => {
                let record: StackRecord = pod::read(bytes)?;
                let stack = bytes
                    .get(size_of::<StackRecord>()..)?
                    .get(..record.len as usize)?;
                Some(Self::Stack(record, stack))
            }
            EXEC | EXEC_BY_THREAD => Some(Self::Process(pod::read(bytes)?)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_or_foreign_bytes_are_no_record() {
        let mut bytes = vec![0; size_of::<PollRecord>()];
        assert!(Record::parse(&bytes).is_none());
        bytes[0] = Kind::Poll as u8;
        assert!(matches!(Record::parse(&bytes), Some(Record::Poll(_))));
        assert!(Record::parse(&bytes[..bytes.len() - 1]).is_none());
        assert!(Record::parse(&[]).is_none());
    }

    #[test]
    fn a_stack_longer_than_its_record_is_refused() {
        let mut bytes = vec![0; size_of::<StackRecord>() + 8];
        bytes[0] = Kind::Sample as u8;
        let len = std::mem::offset_of!(StackRecord, len);
        bytes[len] = 8;
        assert!(matches!(Record::parse(&bytes), Some(Record::Stack(_, stack)) if stack.len() == 8));
        bytes[len] = 9;
        assert!(Record::parse(&bytes).is_none());
    }
}
