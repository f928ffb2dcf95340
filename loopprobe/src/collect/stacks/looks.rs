//! What the looks at one thread have shown of a poll that was open at the attach.

use super::SeenStack;

/// So many samples are kept: the first ones stand for what follows.
const MAX_SAMPLES: usize = 1024;

/// All samples, and the wait that was seen last.
#[derive(Clone, Debug)]
pub(in crate::collect) struct Looks {
    samples: Vec<SeenStack>,
    wait: Option<SeenStack>,
    is_on_cpu: bool,
}

impl Looks {
    /// After the first one.
    pub(in crate::collect) fn of(seen: SeenStack) -> Self {
        let mut looks = Self {
            samples: Vec::new(),
            wait: None,
            is_on_cpu: false,
        };
        looks.add(seen);
        looks
    }

    /// One more.
    pub(in crate::collect) fn add(&mut self, seen: SeenStack) {
        self.is_on_cpu = seen.on_cpu;
        if !seen.on_cpu {
            self.wait = Some(seen);
        } else if self.samples.len() < MAX_SAMPLES {
            self.samples.push(seen);
        }
    }

    /// Whether the last one found the thread on a CPU.
    pub(in crate::collect) fn is_on_cpu(&self) -> bool {
        self.is_on_cpu
    }

    /// What was seen.
    pub(super) fn stacks(self) -> impl Iterator<Item = SeenStack> {
        self.samples.into_iter().chain(self.wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(on_cpu: bool) -> SeenStack {
        SeenStack {
            frames: Vec::new(),
            syscall: None,
            on_cpu,
            page_fault: false,
        }
    }

    #[test]
    fn samples_add_up_and_the_last_wait_stays() {
        let mut looks = Looks::of(seen(false));
        for on_cpu in [true, false, true] {
            looks.add(seen(on_cpu));
        }
        assert!(looks.is_on_cpu());
        let on_cpu: Vec<bool> = looks.stacks().map(|one| one.on_cpu).collect();
        assert_eq!(on_cpu, [true, true, false]);
    }
}
