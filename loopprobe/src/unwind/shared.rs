//! Unwind information of files that several sessions walk: held in memory once.

use std::{
    collections::HashMap,
    fs::File,
    sync::{Arc, LazyLock, Mutex, PoisonError, Weak},
};

use super::image::Image;
use crate::elf::FileState;

/// What somebody holds.
static SHARED: LazyLock<Mutex<HashMap<FileState, Weak<Image>>>> = LazyLock::new(Mutex::default);

/// What walking a stack takes of a file: what somebody holds of the same file in the same state, or
/// else what is read now. `None` where it is no ELF image that can be read.
pub(super) fn read(file: &File) -> Option<Arc<Image>> {
    let state = FileState::of_open(file).ok();
    let Some(state) = state.filter(FileState::is_settled) else {
        return Image::of_file(file).map(Arc::new);
    };
    let shared = || SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = shared().get(&state).and_then(Weak::upgrade) {
        return Some(known);
    }
    let image = Arc::new(Image::of_file(file)?);
    // It may have been written to while it was read.
    if FileState::of_open(file).is_ok_and(|now| now == state) {
        let mut shared = shared();
        shared.retain(|_, image| image.strong_count() > 0);
        shared.insert(state, Arc::downgrade(&image));
    }
    Some(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_holds_is_not_read_again() {
        // The C library: nobody has written it just now.
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let paths = maps
            .lines()
            .filter_map(|line| line.split_whitespace().nth(5));
        let path = paths.into_iter().find(|path| path.contains("/libc.so.6"));
        let file = File::open(path.expect("the C library")).unwrap();
        let (first, second) = (read(&file).unwrap(), read(&file).unwrap());
        assert!(Arc::ptr_eq(&first, &second));
        let gone = Arc::downgrade(&first);
        drop((first, second));
        assert!(gone.upgrade().is_none(), "nobody needs it");
    }
}
