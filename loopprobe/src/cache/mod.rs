//! What is remembered of files that have been seen, from one run to the next.
//!
//! Nothing that decides where a probe goes is remembered: sites and what is probed there are found
//! in the file each time, which is quick. Names take long, and so does looking into every file of a
//! machine. A name is used only for a file with the same bytes ([`crate::elf::Image::digest`]), and
//! only if the places that it was for are those that the file was seen to have
//! ([`crate::runtime::FileNames::give`]).

mod entry;
mod folder;
mod names;
mod seen;

use std::{fmt::Debug, io};

use serde::{Serialize, de::DeserializeOwned};

pub use entry::{Key, decode, encode};
pub use seen::Seen;

use folder::Folder;

/// Whether something is remembered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cache {
    /// Nothing is, and nothing is read or written.
    #[default]
    Off,
    /// In the cache folder of the user that this process is at the moment.
    On,
}

impl Cache {
    /// What is remembered under a key. Whatever is wrong with it, it is as if there were nothing.
    fn read<T: DeserializeOwned>(self, key: &Key) -> Option<T> {
        let folder = self.folder()?;
        let name = key.name();
        let bytes = match folder.read(&name) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                log::debug!("cache: {name} is not used: {error}");
                return None;
            }
        };
        let value = decode(key, &bytes);
        if value.is_none() {
            log::debug!("cache: {name} is not used: it is damaged, or of something else");
        }
        value
    }

    fn write<T: Serialize + Debug>(self, key: &Key, value: &T) {
        let Some(folder) = self.folder() else { return };
        let Some(bytes) = encode(key, value) else {
            return;
        };
        if let Err(error) = folder.write(&key.name(), &bytes) {
            log::debug!("cache: nothing is remembered: {error}");
        }
    }

    /// Opened each time: a session that was started through sudo becomes its user meanwhile.
    fn folder(self) -> Option<Folder> {
        if self == Self::Off {
            return None;
        }
        Folder::open()
            .inspect_err(|error| log::debug!("cache: there is no folder for it: {error}"))
            .ok()
    }
}
