//! Records as the kernel side writes them, read with every length checked.

use loopprobe_common::records::{
    BusyRecord, DelayRecord, DriverRecord, Kind, PollRecord, ProcessRecord, StackRecord,
    TakerRecord,
};
use loopprobe_common::{target::MAX_TARGETS, watch::WatchRecord};

use crate::attach::pod;

/// One record of the ring buffer.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one at a time, of the thread that reads"
)]
pub(crate) enum Record<'a> {
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
    /// The index of the target that a record is of; the first one's for what is no record, which is
    /// counted there.
    pub(super) fn target(bytes: &[u8]) -> usize {
        let target = bytes.get(2..).and_then(<[u8]>::first_chunk);
        let target = target.map_or(0, |target| usize::from(u16::from_ne_bytes(*target)));
        if target < MAX_TARGETS as usize {
            target
        } else {
            0
        }
    }

    /// Puts the type of a task in the place of the number that the programs know it by.
    pub(crate) fn name_types(&mut self, type_of: impl Fn(u32) -> u32) {
        let number = match self {
            Self::Poll(record) | Self::Unsettled(record) => &mut record.poll.task_type,
            Self::Delay(record) => &mut record.task_type,
            Self::Busy(record) => &mut record.task_type,
            _ => return,
        };
        *number = type_of(*number);
    }

    /// `None` if the bytes are no record: then loopprobe and its eBPF object do not belong
    /// together.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        const POLL: u16 = Kind::Poll as u16;
        const ROOT: u16 = Kind::Root as u16;
        const UNSETTLED: u16 = Kind::Unsettled as u16;
        const WATCHED: u16 = Kind::Watched as u16;
        const OFF_CPU: u16 = Kind::OffCpu as u16;
        const SAMPLE: u16 = Kind::Sample as u16;
        const SCAN: u16 = Kind::Scan as u16;
        const QUESTION: u16 = Kind::Question as u16;
        const WAKER: u16 = Kind::Waker as u16;
        const BESIDE: u16 = Kind::Beside as u16;
        const TAKER: u16 = Kind::Taker as u16;
        const PIECE: u16 = Kind::Piece as u16;
        const DRIVER: u16 = Kind::Driver as u16;
        const DELAY: u16 = Kind::Delay as u16;
        const BUSY: u16 = Kind::Busy as u16;
        const EXEC: u16 = Kind::Exec as u16;
        const EXEC_BY_THREAD: u16 = Kind::ExecByThread as u16;
        let kind = u16::from_ne_bytes(bytes.first_chunk().copied()?);
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
