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

    /// Fills `buffer` from an address; returns how many bytes could be read, counted from the start.
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
}
