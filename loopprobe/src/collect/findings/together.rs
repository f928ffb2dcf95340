//! Long polls at the same time.

use std::collections::HashSet;

use super::Seen;

/// A time at which every one of some threads was in a long poll.
#[derive(Clone, Debug)]
pub(crate) struct Together {
    /// Since when.
    pub since_ns: u64,
    /// How long.
    pub duration_ns: u64,
    /// A poll a thread.
    pub polls: Vec<Seen>,
}

/// The longest time, of at least `least_ns`, for which all of `threads` were in long polls.
pub(crate) fn all_at_once(
    polls: &[Seen],
    threads: &HashSet<u32>,
    least_ns: u64,
) -> Option<Together> {
    let theirs: Vec<&Seen> = polls
        .iter()
        .filter(|seen| !seen.may_block && threads.contains(&seen.poll.tid))
        .collect();
    // Such a time begins where one of the polls does.
    let times = theirs.iter().filter_map(|first| {
        let since_ns = first.poll.start_ns;
        let open = |seen: &&&Seen| seen.poll.start_ns <= since_ns && seen.end_ns() > since_ns;
        let mut together: Vec<Seen> = theirs.iter().filter(open).map(|s| (*s).clone()).collect();
        // Of polls inside each other, the outermost.
        together.sort_by_key(|seen| (seen.poll.tid, seen.poll.start_ns));
        together.dedup_by_key(|seen| seen.poll.tid);
        let end_ns = together.iter().map(Seen::end_ns).min()?;
        let duration_ns = end_ns - since_ns;
        (together.len() == threads.len() && duration_ns >= least_ns).then_some(Together {
            since_ns,
            duration_ns,
            polls: together,
        })
    });
    times.max_by_key(|together| together.duration_ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_time_that_all_share_counts() {
        let threads = HashSet::from([1, 2]);
        let polls = [
            Seen::ended(1, 0, 100),
            Seen::ended(2, 60, 100),
            Seen::ended(3, 0, 500),
        ];
        let found = all_at_once(&polls, &threads, 30).unwrap();
        assert_eq!((found.since_ns, found.duration_ns), (60, 40));
        assert_eq!(found.polls.len(), 2);
        assert!(all_at_once(&polls, &threads, 41).is_none());
        assert!(all_at_once(&polls, &HashSet::from([1, 2, 4]), 1).is_none());
    }

    #[test]
    fn one_after_the_other_is_not_at_once() {
        let threads = HashSet::from([1, 2]);
        assert!(
            all_at_once(
                &[Seen::ended(1, 0, 50), Seen::ended(2, 50, 50)],
                &threads,
                1
            )
            .is_none()
        );
    }

    #[test]
    fn a_poll_that_may_block_keeps_no_worker() {
        let threads = HashSet::from([1, 2]);
        let mut polls = [Seen::ended(1, 0, 50), Seen::ended(2, 0, 50)];
        polls[1].may_block = true;
        assert!(all_at_once(&polls, &threads, 1).is_none());
    }
}
