//! What the kernel side says of a loop's health beside its polls: how long a worker went without
//! parking, how long nobody turned a driver.
//!
//! User space looks every so often, each time with the next number
//! ([`crate::config::Config::look`]). A longest value belongs to a look: it is kept in one of two
//! places by turns, so that the one before can be read while the next one is made.

/// The longest of something since a look of user space.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Longest {
    /// Since which look.
    pub look: u64,
    /// In nanoseconds.
    pub ns: u64,
}

impl Longest {
    /// Notes one that is over.
    #[inline(always)]
    pub fn note(both: &mut [Self; 2], look: u64, ns: u64) {
        let longest = if look & 1 == 0 {
            &mut both[0]
        } else {
            &mut both[1]
        };
        if longest.look != look {
            *longest = Self { look, ns: 0 };
        }
        if longest.ns < ns {
            longest.ns = ns;
        }
    }

    /// The longest since a look, 0 if there was none.
    pub fn since(both: &[Self; 2], look: u64) -> u64 {
        let longest = both[(look & 1) as usize];
        if longest.look == look { longest.ns } else { 0 }
    }
}

/// An I/O and timer driver, by the descriptor that its threads call `epoll_wait` with; an element
/// of the map `DRIVERS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Driver {
    /// Since when no thread is in its `epoll_wait`; 0 while one waits there.
    pub left_ns: u64,
    /// How long that was in all, up to the last call.
    pub total_ns: u64,
    /// How many calls ended such a time.
    pub turns: u64,
    /// The longest such time.
    pub longest: [Longest; 2],
    /// The thread that called last, in loopprobe's pid namespace.
    pub tid: u32,
    /// Keeps the layout free of padding.
    pub reserved: u32,
}

/// How many drivers are followed, of a load for one target; the least recently used ones give way.
pub const MAX_DRIVERS: u32 = 256;

crate::pod!(Longest, Driver);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_longest_value_belongs_to_its_look() {
        let mut both = [Longest::default(); 2];
        for (look, ns) in [(1, 5), (1, 9), (1, 7), (2, 3)] {
            Longest::note(&mut both, look, ns);
        }
        assert_eq!((Longest::since(&both, 1), Longest::since(&both, 2)), (9, 3));
        Longest::note(&mut both, 3, 1);
        assert_eq!((Longest::since(&both, 1), Longest::since(&both, 3)), (0, 1));
    }
}
