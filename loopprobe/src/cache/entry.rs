//! An entry as bytes: what it is of, what it says, and a checksum. Read without trusting it.

use std::sync::OnceLock;

use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};

use crate::elf::FileState;

/// What every entry begins with. The number is that of the format; another one is another format.
const MAGIC: &[u8; 16] = b"loopprobe cache1";
const HASH: usize = 32;
const HEAD: usize = MAGIC.len() + 2 * HASH;

/// What an entry is of. Everything that the outcome depends on is in it, and so is this very
/// program: another one may find more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key([u8; HASH]);

impl Key {
    /// Of one kind of knowledge, and all that it depends on.
    pub(super) fn of(kind: &str, parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        let own = own_program();
        for part in [MAGIC, own, kind.as_bytes()].iter().chain(parts) {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        Self(hash.finalize().into())
    }

    /// The entry's name in the folder.
    pub(super) fn name(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// This program: its version, and the state of its file, which is another after each build. Without
/// that nothing can be told from what another build remembered, so each run is its own.
fn own_program() -> &'static [u8] {
    static OWN: OnceLock<Vec<u8>> = OnceLock::new();
    OWN.get_or_init(|| {
        let file = FileState::at("/proc/self/exe".as_ref());
        let words = file.map_or([u64::from(std::process::id()); 7], |state| state.words());
        let bytes = words.into_iter().flat_map(u64::to_le_bytes);
        env!("CARGO_PKG_VERSION").bytes().chain(bytes).collect()
    })
}

/// An entry's bytes. `None` if it cannot be written down.
pub fn encode(key: &Key, value: &impl Serialize) -> Option<Vec<u8>> {
    let body = serde_json::to_vec(value).ok()?;
    let mut bytes = Vec::with_capacity(HEAD + body.len());
    bytes.extend(MAGIC);
    bytes.extend(key.0);
    bytes.extend(checksum(key, &body));
    bytes.extend(body);
    Some(bytes)
}

/// What an entry says; `None` unless it is whole and of this key.
pub fn decode<T: DeserializeOwned>(key: &Key, bytes: &[u8]) -> Option<T> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (found, rest) = rest.split_first_chunk::<HASH>()?;
    let (sum, body) = rest.split_first_chunk::<HASH>()?;
    if *found != key.0 || *sum != checksum(key, body) {
        return None;
    }
    serde_json::from_slice(body).ok()
}

fn checksum(key: &Key, body: &[u8]) -> [u8; HASH] {
    Sha256::new()
        .chain_update(key.0)
        .chain_update(body)
        .finalize()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_whole_and_of_its_key_or_nothing() {
        let (key, other) = (Key::of("a", &[b"bc"]), Key::of("ab", &[b"c"]));
        assert_ne!(key, other);
        let bytes = encode(&key, &vec![1, 2, 3]).unwrap();
        assert_eq!(decode::<Vec<u32>>(&key, &bytes), Some(vec![1, 2, 3]));
        assert_eq!(decode::<Vec<u32>>(&other, &bytes), None);
        assert_eq!(decode::<Vec<String>>(&key, &bytes), None);
        for length in 0..bytes.len() {
            assert_eq!(decode::<Vec<u32>>(&key, &bytes[..length]), None);
        }
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_eq!(decode::<Vec<u32>>(&key, &changed), None, "byte {at}");
        }
    }
}
