//! Reads words and strings of a process that runs, by process_vm_readv(2).

use std::io::IoSliceMut;

use nix::{
    sys::uio::{RemoteIoVec, process_vm_readv},
    unistd::Pid,
};

use crate::elf::ProcAddr;

/// Reads another process's memory without stopping it.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    pid: Pid,
}

impl Memory {
    /// The memory of a process.
    pub fn of(pid: u32) -> Self {
        Self {
            pid: Pid::from_raw(i32::try_from(pid).unwrap_or(i32::MAX)),
        }
    }

    /// Fills `buffer` from an address; returns how many bytes could be read, counted from the
    /// start.
    pub fn read(&self, address: ProcAddr, buffer: &mut [u8]) -> usize {
        let Ok(base) = usize::try_from(address.0) else {
            return 0;
        };
        let remote = [RemoteIoVec {
            base,
            len: buffer.len(),
        }];
        process_vm_readv(self.pid, &mut [IoSliceMut::new(buffer)], &remote).unwrap_or(0)
    }

    /// Reads the words of several places, in one call of the kernel. A place that cannot be read,
    /// and those after it, are left out: the answer is how many whole places were read.
    pub fn places(&self, places: &[(ProcAddr, usize)], words: &mut [u64]) -> usize {
        let remote: Vec<_> = places
            .iter()
            .take(MAX_PLACES)
            .filter_map(|(address, words)| {
                Some(RemoteIoVec {
                    base: usize::try_from(address.0).ok()?,
                    len: words * size_of::<u64>(),
                })
            })
            .collect();
        let mut bytes = vec![0; size_of_val(words)];
        let read = process_vm_readv(self.pid, &mut [IoSliceMut::new(&mut bytes)], &remote);
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        let mut left = read.unwrap_or(0);
        let whole = remote.iter().take_while(|place| {
            let is_whole = place.len <= left;
            left = left.saturating_sub(place.len);
            is_whole
        });
        whole.count()
    }

    /// A word.
    pub fn word(&self, address: ProcAddr) -> Option<u64> {
        let mut word = [0; 8];
        (self.read(address, &mut word) == word.len()).then(|| u64::from_le_bytes(word))
    }

    /// A zero-terminated string of at most `limit` bytes, lossily.
    pub fn string(&self, address: ProcAddr, limit: usize) -> Option<String> {
        let mut bytes = vec![0; limit];
        // A read that crosses into an unmapped page fails as a whole, so it ends with the page.
        let mut have = 0;
        while have < limit {
            let at = address.0.checked_add(have as u64)?;
            let step = (PAGE - at % PAGE).min((limit - have) as u64) as usize;
            let got = self.read(ProcAddr(at), &mut bytes[have..have + step]);
            if let Some(end) = bytes[have..have + got].iter().position(|&byte| byte == 0) {
                return Some(String::from_utf8_lossy(&bytes[..have + end]).into_owned());
            }
            if got < step {
                return None;
            }
            have += step;
        }
        None
    }
}

/// The kernel takes so many at once (`UIO_MAXIOV`, `include/uapi/linux/uio.h`).
const MAX_PLACES: usize = 1024;

/// The page size of x86_64.
pub(crate) const PAGE: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_end_at_their_zero_and_unmapped_memory_reads_as_nothing() {
        let memory = Memory::of(std::process::id());
        let text = c"/etc/hosts";
        let address = ProcAddr(text.as_ptr() as u64);
        assert_eq!(memory.string(address, 4096).as_deref(), Some("/etc/hosts"));
        assert_eq!(memory.string(address, 4), None);
        assert_eq!(memory.word(ProcAddr(8)), None);
    }

    #[test]
    fn places_are_read_up_to_the_first_that_cannot_be() {
        let memory = Memory::of(std::process::id());
        let here = [1_u64, 2, 3];
        let at = |index: usize| ProcAddr(&raw const here[index] as u64);
        let mut words = [0; 4];
        let read = memory.places(&[(at(2), 1), (at(0), 2)], &mut words);
        assert_eq!((read, words), (2, [3, 1, 2, 0]));
        let read = memory.places(&[(at(1), 1), (ProcAddr(8), 1), (at(0), 1)], &mut words);
        assert_eq!((read, words[0]), (1, 2));
    }
}
