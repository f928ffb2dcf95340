//! An end to loopprobe's own memory, whatever files it reads.

use nix::{
    sys::resource::{Resource, getrlimit, setrlimit},
    unistd::{SysconfVar, sysconf},
};

/// Enough for the debug information of the largest programs.
const MOST: u64 = 8 << 30;
/// Less is not worth an early end.
const LEAST: u64 = 1 << 30;

/// Limits the memory of this process, and of those that it starts from now on, to half of the
/// machine's: debug information can be made so that reading it takes any amount, and the kernel
/// might then end the target to get memory. Beyond the limit loopprobe itself ends.
pub(super) fn set() {
    let pages = sysconf(SysconfVar::_PHYS_PAGES).ok().flatten().unwrap_or(0);
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().unwrap_or(0);
    let machine = u64::try_from(pages.saturating_mul(page)).unwrap_or(0);
    let limit = (machine / 2).clamp(LEAST, MOST);
    // Where a limit cannot be set, there is a lower one already.
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_DATA)
        && limit < soft
    {
        let _ = setrlimit(Resource::RLIMIT_DATA, limit, hard);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_ends_at_the_limit() {
        set();
        let (soft, _) = getrlimit(Resource::RLIMIT_DATA).unwrap();
        assert!((LEAST..=MOST).contains(&soft), "{soft}");
        let mut bytes = Vec::<u8>::new();
        assert!(bytes.try_reserve(soft as usize / 2).is_ok());
        assert!(bytes.try_reserve(soft as usize + 1).is_err());
    }
}
