//! Seeing polls without probes: by what a thread's own variables say at switches and samples.

/// How many images of a process can be watched.
pub const MAX_WORDS: u32 = 4;

/// Where threads keep what an image's runtime polls; an element of the map `WORDS`, which
/// has [`MAX_WORDS`] for each target.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Words {
    /// One of [`Words::UNUSED`] and the like.
    pub state: u64,
    /// The task's number, in bytes from the thread pointer, or into the module's block. It wraps
    /// around.
    pub task_id: u64,
    /// How far the budget lies behind it.
    pub budget_distance: u64,
    /// The number of the module, for a shared object; 0 for a program.
    pub module: u64,
    /// The size of an entry of the table of modules' blocks: 16 with glibc, 8 with musl.
    pub entry_size: u64,
    /// 1 if the 8 bytes before the task's number say whether there is one.
    pub has_tag: u64,
    /// How many bytes it takes to read all of that at once; 0 if it lies too far apart.
    pub window: u64,
    /// How far before the task's number they begin: a multiple of 8.
    pub before: u64,
}

/// So many words are read at once at the most.
pub const WINDOW_WORDS: usize = 16;

impl Words {
    /// There is no such image.
    pub const UNUSED: u64 = 0;
    /// The process has the image mapped.
    pub const USED: u64 = 1;
    /// The process is about to execute the image.
    pub const FROM_EXEC: u64 = 2;

    /// The same, to be read at once where that is possible.
    #[must_use]
    pub const fn with_window(self) -> Self {
        let budget = self.budget_distance.cast_signed();
        let first = if self.has_tag == 0 { 0 } else { -8 };
        let first = if budget < first { budget } else { first };
        // Words are looked at as words.
        let first = first.wrapping_sub(first.rem_euclid(8));
        let end = if budget < 8 {
            8
        } else {
            budget.wrapping_add(1)
        };
        let size = end.wrapping_sub(first);
        if size <= 0 || size > WINDOW_WORDS as i64 * 8 {
            return Self {
                window: 0,
                before: 0,
                ..self
            };
        }
        Self {
            window: size.cast_unsigned(),
            before: (-first).cast_unsigned(),
            ..self
        }
    }
}

/// What is known of the poll that a thread is in; part of `Thread`. The poll began after `lo_ns`
/// and before its `start_ns`, and went on until `last_ns` at least.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    /// When the thread was looked at last; 0 for never.
    pub seen_ns: u64,
    /// The task's number as it was then.
    pub task_id: u64,
    /// The task's number when the thread was last seen in no poll: a worker is a task of the
    /// blocking pool itself.
    pub idle_id: u64,
    /// When it was looked at last before the poll was seen first.
    pub lo_ns: u64,
    /// When the poll was seen last.
    pub last_ns: u64,
    /// Bits of [`WatchRecord::OLDER`] and the like.
    pub flags: u64,
    /// The longest time off the CPU inside it: nothing can have been polled meanwhile.
    pub longest: Wait,
    /// What was read of the thread's variables last: a program has no room for it.
    pub window: [u64; WINDOW_WORDS],
}

/// A time off the CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wait {
    /// When it began.
    pub at_ns: u64,
    /// How long it took.
    pub ns: u64,
    /// How much of it the thread waited for a CPU.
    pub runnable_ns: u64,
}

/// A poll that was seen, and is over; or several ones of the same task between which nothing else
/// was seen.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchRecord {
    /// [`crate::records::Kind::Watched`].
    pub kind: u16,
    /// Which target it is of: see [`crate::target`].
    pub target: u16,
    /// The thread, in loopprobe's pid namespace.
    pub tid: u32,
    /// The task's number; 0 for the root future.
    pub task_id: u64,
    /// The thread's number outside of polls: see [`Watch::idle_id`].
    pub idle_id: u64,
    /// Bits of [`WatchRecord::OLDER`] and the like.
    pub flags: u64,
    /// It began after this, unless it may be older.
    pub lo_ns: u64,
    /// It was seen first then.
    pub first_ns: u64,
    /// It was seen last then.
    pub last_ns: u64,
    /// It had ended by then, unless it may go on.
    pub hi_ns: u64,
    /// The longest time off the CPU inside it.
    pub longest: Wait,
    /// Time blocked between `first_ns` and `hi_ns`.
    pub blocked_ns: u64,
    /// Time ready without a CPU between them.
    pub runnable_ns: u64,
}

impl WatchRecord {
    /// It may have begun before `lo_ns`.
    pub const OLDER: u64 = 1;
    /// It may have gone on after `hi_ns`.
    pub const GOES_ON: u64 = 2;
    /// One time off the CPU inside it was as long as the threshold: one poll took that long for
    /// certain. The others may wait until somebody looks anyway.
    pub const CERTAIN: u64 = 4;
}

/// Whether what is open is no task's poll: a root future's, whether or not that runs in a closure
/// of the blocking pool.
#[inline(always)]
pub const fn is_root(task_id: u64, idle_id: u64) -> bool {
    task_id == 0 || task_id == idle_id
}

crate::pod!(Words, Watch, Wait, WatchRecord);

#[cfg(test)]
mod tests {
    use super::*;

    fn window(budget_distance: i64, has_tag: u64) -> (u64, u64) {
        let words = Words {
            budget_distance: budget_distance.cast_unsigned(),
            has_tag,
            ..Words::default()
        };
        let words = words.with_window();
        (words.before, words.window)
    }

    #[test]
    fn a_window_holds_the_number_its_tag_and_the_budget() {
        assert_eq!(window(0x14, 0), (0, 0x15));
        assert_eq!(window(0x28, 1), (8, 0x31));
        assert_eq!(window(-0x13, 0), (0x18, 0x20));
        assert_eq!(window(-0x13, 1), (0x18, 0x20));
    }

    #[test]
    fn what_lies_too_far_apart_has_no_window() {
        for far in [0x80, -0x79, i64::MAX, i64::MIN] {
            assert_eq!(window(far, 0), (0, 0));
        }
    }
}
