//! Entry-only timing (`--light`): tells the kernel side whether a poll is still open where its thread has stopped.

use std::collections::HashMap;

use loopprobe_common::{
    light::{MAX_PLACES, Place, answer},
    records::StackRecord,
    thread::Thread,
};

use super::stacks::raw_stack;
use crate::{
    attach::{AttachError, Kernel, PlannedImage},
    process::ProcessError,
    unwind::{PollFunctions, Unwinder},
};

/// Answers questions.
pub struct Light {
    unwinder: Unwinder,
    functions: PollFunctions,
    answers: HashMap<Place, u32>,
}

impl std::fmt::Debug for Light {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Light")
            .field("answers", &self.answers)
            .finish_non_exhaustive()
    }
}

impl Light {
    /// For a process and the files in it that are probed.
    ///
    /// # Errors
    ///
    /// If its memory map cannot be read.
    pub fn new(pid: u32, planned: &[PlannedImage]) -> Result<Self, ProcessError> {
        let unwinder = Unwinder::new(pid)?;
        Ok(Self {
            functions: poll_functions(&unwinder, planned),
            unwinder,
            answers: HashMap::new(),
        })
    }

    /// The process has executed another program, or loaded a library: nothing need lie where it lay.
    ///
    /// # Errors
    ///
    /// [`AttachError::Map`].
    pub fn reload(
        &mut self,
        planned: &[PlannedImage],
        kernel: &mut Kernel,
    ) -> Result<(), AttachError> {
        // If it has ended meanwhile, no question will come any more.
        let _ = self.unwinder.reload();
        self.functions = poll_functions(&self.unwinder, planned);
        self.forget(kernel)
    }

    /// The functions that poll tasks.
    pub fn functions(&self) -> &PollFunctions {
        &self.functions
    }

    /// Answers a question. A place that has been both is one where nothing can be told.
    ///
    /// # Errors
    ///
    /// [`AttachError::Map`].
    pub fn answer(
        &mut self,
        record: &StackRecord,
        bytes: &[u8],
        kernel: &mut Kernel,
    ) -> Result<(), AttachError> {
        let unwound = self.unwinder.unwind(raw_stack(record, bytes));
        let mut new = match self.functions.is_open(&unwound) {
            Some(true) => answer::OPEN,
            Some(false) => answer::ENDED,
            None => answer::UNKNOWN,
        };
        match self.answers.get(&record.place) {
            Some(old) if *old == new => return Ok(()),
            Some(_) => new = answer::UNKNOWN,
            None if self.answers.len() >= MAX_PLACES as usize => self.forget(kernel)?,
            None => {}
        }
        self.answers.insert(record.place, new);
        kernel.answer(&record.place, new)
    }

    /// What was answered about a place; one of [`answer`].
    pub fn answered(&self, place: &Place) -> u32 {
        self.answers.get(place).copied().unwrap_or(answer::NONE)
    }

    /// Whether a poll that the kernel side still holds for open has ended, or may have.
    pub fn has_ended(&self, thread: &Thread, start_ns: u64) -> bool {
        let question = &thread.question;
        let about = thread.polls.get((question.depth as usize).wrapping_sub(1));
        question.place.is_some()
            && about.is_some_and(|poll| poll.start_ns == start_ns)
            && self.answered(&question.place) != answer::OPEN
    }

    fn forget(&mut self, kernel: &mut Kernel) -> Result<(), AttachError> {
        for (place, _) in self.answers.drain() {
            kernel.forget_answer(&place)?;
        }
        Ok(())
    }
}

fn poll_functions(unwinder: &Unwinder, planned: &[PlannedImage]) -> PollFunctions {
    let mut functions = PollFunctions::default();
    for image in planned.iter().filter_map(|image| image.tokio.as_ref()) {
        for module in unwinder.modules() {
            if image.path == module.path() {
                functions.add(module, image);
            }
        }
    }
    functions
}
