//! Entry-only timing (`--light`): tells the kernel side whether a poll is still open where its
//! thread has stopped.

mod places;
mod question;

use loopprobe_common::{
    light::{Place, answer},
    records::StackRecord,
    thread::Thread,
};

use self::{places::Places, question::Pieces};
use crate::{
    attach::{AttachError, Kernel, PlannedImage},
    process::ProcessError,
    runtime::ImageFacts,
    unwind::{PollFunctions, Unwinder},
};

/// Answers questions.
pub(crate) struct Light {
    unwinder: Unwinder,
    functions: PollFunctions,
    places: Places,
    pieces: Pieces,
}

impl std::fmt::Debug for Light {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Light")
            .field("places", &self.places)
            .finish_non_exhaustive()
    }
}

impl Light {
    /// For a process and the files in it that are probed.
    ///
    /// # Errors
    ///
    /// If its memory map cannot be read.
    pub(crate) fn new(pid: u32, planned: &[PlannedImage]) -> Result<Self, ProcessError> {
        let unwinder = Unwinder::new(pid)?;
        Ok(Self {
            functions: poll_functions(&unwinder, planned),
            unwinder,
            places: Places::default(),
            pieces: Pieces::default(),
        })
    }

    /// The process has executed another program, or loaded a library: nothing need lie where it
    /// lay.
    ///
    /// # Errors
    ///
    /// [`AttachError::Map`].
    pub(crate) fn reload(
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
    pub(crate) fn functions(&self) -> &PollFunctions {
        &self.functions
    }

    /// Takes a piece of a stack that is too deep for one record. Its question follows.
    pub(crate) fn piece(&mut self, record: &StackRecord, bytes: &[u8]) {
        self.pieces.add(record, bytes);
    }

    /// Answers a question.
    ///
    /// # Errors
    ///
    /// [`AttachError::Map`].
    pub(crate) fn answer(
        &mut self,
        record: &StackRecord,
        bytes: &[u8],
        kernel: &mut Kernel,
    ) -> Result<(), AttachError> {
        let stack = self.pieces.stack(record, bytes);
        let unwound = self.unwinder.unwind(stack);
        let seen = match self.functions.is_open(&unwound) {
            Some(true) => answer::OPEN,
            Some(false) => answer::ENDED,
            None if question::is_presumed_open(record) => answer::PRESUMED,
            None => answer::UNKNOWN,
        };
        if self.places.is_full(kernel.most_places()) {
            self.forget(kernel)?;
        }
        match self.places.learn(record.place, seen) {
            Some(news) => kernel.answer(&record.place, news),
            None => Ok(()),
        }
    }

    /// What was answered about a place; one of [`answer`].
    pub(crate) fn answered(&self, place: &Place) -> u32 {
        self.places.answered(place)
    }

    /// Whether a poll that the kernel side still holds for open has ended, or may have.
    pub(crate) fn has_ended(&self, thread: &Thread, start_ns: u64) -> bool {
        let question = &thread.question;
        let about = thread.polls.get((question.depth as usize).wrapping_sub(1));
        question.place.is_some()
            && about.is_some_and(|poll| poll.start_ns == start_ns)
            && !is_open(self.answered(&question.place))
    }

    fn forget(&mut self, kernel: &mut Kernel) -> Result<(), AttachError> {
        for place in self.places.forget() {
            kernel.forget_answer(&place)?;
        }
        Ok(())
    }
}

/// A file with a runtime in which entries alone tell nothing: most of its functions that poll tasks
/// have no unwind information, so no walk can show whether they are on a stack.
pub(crate) fn untimeable(planned: &[PlannedImage]) -> Option<&ImageFacts> {
    planned
        .iter()
        .filter_map(|image| Some(image.runtime.as_ref()?.facts()))
        .find(|image| image.described_sites * 2 < image.sites.len())
}

/// Whether an answer takes a poll for open.
pub(crate) fn is_open(answer: u32) -> bool {
    answer == answer::OPEN || answer == answer::PRESUMED
}

fn poll_functions(unwinder: &Unwinder, planned: &[PlannedImage]) -> PollFunctions {
    let mut functions = PollFunctions::default();
    for image in planned.iter().filter_map(|image| image.runtime.as_ref()) {
        for module in unwinder.modules() {
            if image.facts().path == module.path() {
                functions.add(module, image);
            }
        }
    }
    functions
}
