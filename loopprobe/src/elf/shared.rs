//! Images that several need at the same time are held in memory once.

use std::{
    collections::HashMap,
    fs::File,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock, Mutex, PoisonError, Weak},
};

use super::{Architecture, ElfError, FileState, Image, segments::Segment};

/// So much of an image is in memory at most for a long time, in bytes.
const MOST_HELD: usize = 2 << 20;

type Shared = HashMap<(FileState, PathBuf), Weak<Image>>;

/// The images that somebody holds. Sessions on several processes share those of one file.
static SHARED: LazyLock<Mutex<Shared>> = LazyLock::new(Mutex::default);

impl Image {
    /// The image, if it is for this machine: nothing of another's is executed here, and its code is
    /// not to be looked for in a process.
    pub(super) fn of_host(self) -> Result<Self, ElfError> {
        let found = self.architecture();
        if found == Architecture::HOST {
            return Ok(self);
        }
        let path = self.path().into();
        Err(ElfError::Foreign { path, found })
    }

    /// The same as [`Image::from_file`], but for an image that somebody holds already: of the same
    /// file, in the same state, by the same name.
    ///
    /// # Errors
    /// As [`Image::open`].
    pub fn shared(file: File, path: &Path) -> Result<Arc<Self>, ElfError> {
        let state = FileState::of_open(&file).ok();
        let Some(state) = state.filter(FileState::is_settled) else {
            return Self::from_file(file, path).map(Arc::new);
        };
        let key = (state, path.to_owned());
        let known = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(image) = known.get(&key).and_then(Weak::upgrade) {
            return Ok(image);
        }
        drop(known);
        let image = Arc::new(Self::from_file(file, path)?);
        // It may have been written to while it was read.
        if image.state() == Some(key.0) {
            let mut known = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
            known.retain(|_, image| image.strong_count() > 0);
            known.insert(key, Arc::downgrade(&image));
        }
        Ok(image)
    }

    /// The same image for who goes on to need a little of it now and then. Where much of it is in
    /// memory it is another one, with nothing of it there, that all share who ask for one.
    #[must_use]
    pub fn lightened(self: &Arc<Self>) -> Arc<Self> {
        if self.held() <= MOST_HELD {
            return Arc::clone(self);
        }
        let mut known = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = |other: &Arc<Self>| Arc::ptr_eq(&self.known, &other.known);
        let mut others = known.iter_mut().filter_map(|(_, weak)| {
            let other = weak.upgrade().filter(is_same)?;
            Some((weak, other))
        });
        let (shared, current) = others.next().unzip();
        if let Some(light) = current.filter(|current| current.held() <= MOST_HELD) {
            return light;
        }
        let segments = self.segments.iter().map(Segment::afresh);
        let Some(segments) = segments.collect::<Option<Vec<_>>>() else {
            return Arc::clone(self);
        };
        let light = Arc::new(Self::of(segments, Arc::clone(&self.known)));
        if let Some(shared) = shared {
            *shared = Arc::downgrade(&light);
        }
        light
    }

    /// How many of its bytes are in memory that it has read from its file.
    pub(super) fn held(&self) -> usize {
        self.segments.iter().map(Segment::held).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, thread, time::Duration};

    use super::*;

    /// The own file. Images of another name are others, so each test has a name for itself.
    fn own(name: &str) -> Arc<Image> {
        let path = Path::new(name);
        let opened = || File::open(path).unwrap();
        // The linker may have written it just now.
        while !FileState::of_open(&opened()).unwrap().is_settled() {
            thread::sleep(Duration::from_millis(100));
        }
        Image::shared(opened(), path).unwrap()
    }

    #[test]
    fn a_file_for_another_processor_is_read_and_is_no_processs_of_this_machine() {
        let other = match Architecture::HOST {
            Architecture::X86_64 => Architecture::Aarch64,
            Architecture::Aarch64 => Architecture::X86_64,
        };
        let mut bytes = fs::read("/proc/self/exe").unwrap();
        // `e_machine` of an ELF header.
        let machine: u16 = if other == Architecture::Aarch64 {
            183
        } else {
            62
        };
        bytes[18..20].copy_from_slice(&machine.to_le_bytes());
        let path = std::env::temp_dir().join(format!("foreign-{}", std::process::id()));
        fs::write(&path, bytes).unwrap();
        let (opened, mapped) = (
            Image::open(&path).map(|image| image.architecture()),
            Image::from_file(File::open(&path).unwrap(), &path),
        );
        fs::remove_file(&path).unwrap();
        assert_eq!(opened.unwrap(), other);
        assert!(matches!(mapped, Err(ElfError::Foreign { found, .. }) if found == other));
    }

    #[test]
    fn an_image_that_is_held_is_not_read_again() {
        let own = || own("/proc/thread-self/exe");
        let (first, second) = (own(), own());
        assert!(Arc::ptr_eq(&first, &second));
        let gone = Arc::downgrade(&first);
        drop((first, second));
        assert!(gone.upgrade().is_none(), "nobody needs it");
        assert!(own().digest().is_some());
    }

    #[test]
    fn one_of_which_much_is_held_is_lightened_for_all() {
        let own = || own("/proc/self/exe");
        let first = own();
        let second = Arc::clone(&first);
        assert!(Arc::ptr_eq(&first.lightened(), &first));
        for range in first.executable_ranges().chain(first.data_ranges()) {
            first.bytes_up_to(range.start, usize::MAX);
        }
        assert!(first.held() > MOST_HELD, "{}", first.held());
        let light = first.lightened();
        assert_eq!(light.held(), 0);
        assert!(Arc::ptr_eq(&light, &second.lightened()));
        assert!(Arc::ptr_eq(&light, &own()));
        assert_eq!(light.pointers().count(), second.pointers().count());
    }

    #[test]
    fn a_file_that_has_just_been_written_is_nobody_elses() {
        let folder = std::env::temp_dir().join(format!("loopprobe-shared-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("copy");
        fs::copy("/proc/self/exe", &path).unwrap();
        let read = || Image::shared(File::open(&path).unwrap(), &path).unwrap();
        let (first, second) = (read(), read());
        let shared = Arc::ptr_eq(&first, &second);
        fs::remove_dir_all(&folder).unwrap();
        assert!(!shared);
    }
}
