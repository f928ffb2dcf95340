//! Names that come after the probes.

use std::{io, sync::Arc};

use super::Observer;
use crate::{attach::PlanSize, collect::naming::Named, process::give_back_freed};

impl Observer {
    /// Begins to read the names of files that were planned without.
    pub(super) fn begin_naming(&mut self) -> io::Result<()> {
        if self.naming.is_busy() {
            // More files have come meanwhile. Their turn is next.
            return Ok(());
        }
        self.naming.begin(std::mem::take(&mut self.images.unnamed))
    }

    /// Takes what has been named. Whether names are still to come: until then nothing is reported,
    /// so that a report has them and none needs another.
    pub(super) fn lacks_names(&mut self) -> io::Result<bool> {
        let named = self.naming.take();
        let read = !named.is_empty();
        self.name(named)?;
        self.begin_naming()?;
        let is_busy = self.naming.is_busy();
        if read && !is_busy {
            give_back_freed();
        }
        Ok(is_busy)
    }

    /// Waits for all names.
    pub(super) fn wait_for_names(&mut self) -> io::Result<()> {
        loop {
            let named = self.naming.wait();
            self.name(named)?;
            self.begin_naming()?;
            if !self.naming.is_busy() {
                give_back_freed();
                return Ok(());
            }
        }
    }

    fn name(&mut self, mut files: Vec<Named>) -> io::Result<()> {
        let watchable = files.iter_mut().filter_map(|named| named.watchable.take());
        self.images.watchable.extend(watchable);
        for named in &files {
            self.plan.name(named.added_at, named.image.as_ref());
            for planned in &mut self.planned {
                if let Some(runtime) = &mut planned.runtime
                    && Arc::ptr_eq(runtime, &named.sketch)
                {
                    *runtime = Arc::clone(&named.image);
                }
            }
            if let Some(watching) = self.source.watching_mut() {
                watching.name(named);
            }
            if let Some(stuck) = &mut self.stuck {
                stuck.name(named);
            }
        }
        if files.is_empty() {
            return Ok(());
        }
        // A name tells whether the kernel side must keep what a task's memory says of its type.
        self.kernel
            .write_tables(&self.plan, PlanSize::default())
            .map_err(io::Error::other)
    }
}
