//! Looks for runtimes in one file, or in every executable file that a process has mapped.

use anyhow::{Context as _, bail};

use super::report::FileReport;
use crate::{
    cache::Cache,
    cli::InspectArgs,
    collect::debug_files::GivenDebugFiles,
    elf::Image,
    process::{ImageFile, Maps},
    runtime::{DiscoverError, RUNTIMES},
};

/// What was found, and what was not and why.
pub(super) struct Inspected {
    cache: Cache,
    pub files: Vec<FileReport>,
    pub remarks: Vec<String>,
}

/// Looks at a file, or at all executable files of a process.
pub(super) fn inspect(args: &InspectArgs, cache: Cache) -> anyhow::Result<Inspected> {
    let mut found = Inspected {
        cache,
        files: Vec::new(),
        remarks: Vec::new(),
    };
    let mut debug_files = GivenDebugFiles::new(&args.debug_file);
    match (args.path.as_deref(), args.pid) {
        (Some(path), _) => found.add(&Image::open(path)?, &mut debug_files)?,
        (None, Some(pid)) => found.add_process(pid, &mut debug_files)?,
        (None, None) => bail!("name a file, or a process with --pid"),
    }
    if let Some((path, problem)) = debug_files.useless() {
        return Err(problem)
            .with_context(|| format!("--debug-file {} is of no use", path.display()));
    }
    Ok(found)
}

impl Inspected {
    fn add(
        &mut self,
        image: &Image,
        debug_files: &mut GivenDebugFiles,
    ) -> Result<(), DiscoverError> {
        let debug_file = debug_files.of(image);
        let found = (self.cache).detect(RUNTIMES, image, debug_file.as_ref())?;
        let files = found
            .iter()
            .map(|found| FileReport::new(found.as_ref(), image, self.cache));
        self.files.extend(files);
        Ok(())
    }

    fn add_process(&mut self, pid: u32, debug_files: &mut GivenDebugFiles) -> anyhow::Result<()> {
        let maps = Maps::read(pid)?;
        let mut looked_at = 0;
        for mapping in maps.images() {
            let image = ImageFile::open(pid, mapping)
                .map_err(anyhow::Error::from)
                .and_then(|file| Ok(Image::from_file(file.file, &mapping.path)?));
            looked_at += 1;
            match image.map(|image| self.add(&image, debug_files)) {
                // Most files of a process have nothing to do with any runtime, which is not worth a
                // remark.
                Ok(Ok(()) | Err(DiscoverError::Nothing { .. })) => {}
                Ok(Err(error)) => self.remarks.push(error.to_string()),
                Err(error) => self.remarks.push(error.to_string()),
            }
        }
        if self.files.is_empty() {
            let whole = match self.remarks.len() {
                0 => format!(
                    "process {pid} does not use Tokio: none of its {looked_at} executable files contains it"
                ),
                unread => format!(
                    "it cannot be told whether process {pid} uses Tokio: {unread} of its {looked_at} executable files were \
                     not read, the others do not contain it"
                ),
            };
            self.remarks.insert(0, whole);
        }
        Ok(())
    }
}
