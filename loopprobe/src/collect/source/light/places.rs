//! What is known of each place.

use std::collections::HashMap;

use loopprobe_common::light::{Place, answer};

/// Answers so far.
#[derive(Debug, Default)]
pub(super) struct Places {
    answers: HashMap<Place, Answer>,
}

#[derive(Clone, Copy, Debug)]
struct Answer {
    /// One of [`answer`].
    value: u32,
    /// Whether a poll was seen open and another one ended: the place tells nothing.
    is_both: bool,
}

impl Places {
    /// Takes over what one stack at a place has shown. Gives the new answer if there is one.
    ///
    /// What has been proven stays against a stack that proves nothing.
    pub(super) fn learn(&mut self, place: Place, seen: u32) -> Option<u32> {
        let old = self.answers.get(&place).copied();
        let new = match old {
            None => Answer {
                value: seen,
                is_both: false,
            },
            Some(old) if old.is_both || old.value == seen || !is_proof(seen) => return None,
            Some(old) if is_proof(old.value) => Answer {
                value: answer::UNKNOWN,
                is_both: true,
            },
            Some(_) => Answer {
                value: seen,
                is_both: false,
            },
        };
        self.answers.insert(place, new);
        Some(new.value)
    }

    /// What was answered about a place; one of [`answer`].
    pub(super) fn answered(&self, place: &Place) -> u32 {
        self.answers
            .get(place)
            .map_or(answer::NONE, |answer| answer.value)
    }

    /// Whether there is no room for another one, if there is for so many.
    pub(super) fn is_full(&self, most: usize) -> bool {
        self.answers.len() >= most
    }

    /// Forgets all, and gives the places.
    pub(super) fn forget(&mut self) -> Vec<Place> {
        self.answers.drain().map(|(place, _)| place).collect()
    }
}

fn is_proof(answer: u32) -> bool {
    answer == answer::OPEN || answer == answer::ENDED
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place = Place {
        ip: 1,
        distance: 2,
        what: 3,
        target: 0,
    };

    #[test]
    fn a_stack_that_proves_nothing_changes_no_proof() {
        let mut places = Places::default();
        assert_eq!(places.learn(PLACE, answer::OPEN), Some(answer::OPEN));
        assert_eq!(places.learn(PLACE, answer::UNKNOWN), None);
        assert_eq!(places.learn(PLACE, answer::PRESUMED), None);
        assert_eq!(places.answered(&PLACE), answer::OPEN);
    }

    #[test]
    fn a_proof_replaces_what_was_presumed() {
        let mut places = Places::default();
        assert_eq!(
            places.learn(PLACE, answer::PRESUMED),
            Some(answer::PRESUMED)
        );
        assert_eq!(places.learn(PLACE, answer::ENDED), Some(answer::ENDED));
    }

    #[test]
    fn a_place_that_was_both_tells_nothing_for_good() {
        let mut places = Places::default();
        places.learn(PLACE, answer::OPEN);
        assert_eq!(places.learn(PLACE, answer::ENDED), Some(answer::UNKNOWN));
        assert_eq!(places.learn(PLACE, answer::OPEN), None);
        assert_eq!(places.learn(PLACE, answer::ENDED), None);
        assert_eq!(places.answered(&PLACE), answer::UNKNOWN);
    }
}
