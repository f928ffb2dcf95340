//! Stacks of loopprobe's own process, for its check of itself.

use loopprobe_common::records::StackRecord;

use super::Stacks;
use crate::{collect::Options, process::ProcessError};

impl Stacks {
    /// For loopprobe's own process, without names.
    ///
    /// # Errors
    ///
    /// If its memory map cannot be read.
    pub(in crate::collect) fn of_own(options: &Options) -> Result<Self, ProcessError> {
        let own = Options {
            pid: std::process::id(),
            ..options.clone()
        };
        let stacks = Self::new(&own)?;
        Ok(Self {
            symbolizer: stacks.symbolizer.without_names(),
            ..stacks
        })
    }

    /// Whether a stack leads to the entry of its poll.
    pub(in crate::collect) fn leads_to_entry(
        &mut self,
        record: &StackRecord,
        bytes: &[u8],
    ) -> bool {
        self.unwind(record, bytes)
            .is_some_and(|unwound| unwound.outcome.is_whole())
    }
}
