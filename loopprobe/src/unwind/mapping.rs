use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::PathBuf};

/// One executable line of `/proc/PID/maps`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mapping {
    pub start: u64,
    pub end: u64,
    pub offset: u64,
    /// Device and inode as the kernel prints them; no inode means no file.
    pub device: (u32, u32),
    pub inode: u64,
    /// As the kernel prints it, ` (deleted)` removed. Empty for anonymous memory.
    pub path: PathBuf,
    pub deleted: bool,
}

/// The executable mappings in the text of `/proc/PID/maps`; lines that are none are left out.
pub(crate) fn executable(maps: &[u8]) -> Vec<Mapping> {
    maps.split(|&byte| byte == b'\n')
        .filter_map(parse)
        .collect()
}

fn parse(line: &[u8]) -> Option<Mapping> {
    // The path comes last, after padding, and may itself hold spaces.
    let mut fields = line.splitn(6, |&byte| byte == b' ');
    let mut text = || std::str::from_utf8(fields.next()?).ok();
    let (start, end) = text()?.split_once('-')?;
    let permissions = text()?;
    let offset = text()?;
    let (major, minor) = text()?.split_once(':')?;
    let inode = text()?;
    let path = fields.next().unwrap_or_default().trim_ascii_start();
    if permissions.as_bytes().get(2) != Some(&b'x') {
        return None;
    }
    let live = path.strip_suffix(b" (deleted)");
    Some(Mapping {
        start: u64::from_str_radix(start, 16).ok()?,
        end: u64::from_str_radix(end, 16).ok()?,
        offset: u64::from_str_radix(offset, 16).ok()?,
        device: (
            u32::from_str_radix(major, 16).ok()?,
            u32::from_str_radix(minor, 16).ok()?,
        ),
        inode: inode.parse().ok()?,
        path: PathBuf::from(OsStr::from_bytes(live.unwrap_or(path))),
        deleted: live.is_some(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executable_lines_are_read_with_any_path() {
        let maps = b"55d0a000-55d0b000 r--p 00000000 fe:01 42     /opt/a b (deleted)\n\
            55d0b000-55d0c000 r-xp 00001000 fe:01 42     /opt/a b (deleted)\n\
            7f00000000-7f00001000 r-xp 00002000 00:1f 7 /lib/\xff.so\n\
            7fff0000-7fff1000 r-xp 00000000 00:00 0      [vdso]\n\
            80000000-80001000 rwxp 00000000 00:00 0 \n\
            nonsense\n";
        let found = executable(maps);
        assert_eq!(found.len(), 4);
        assert_eq!(found[0].path, PathBuf::from("/opt/a b"));
        assert!(found[0].deleted);
        assert_eq!((found[0].offset, found[0].device), (0x1000, (0xfe, 1)));
        assert_eq!(found[1].path.as_os_str().as_bytes(), b"/lib/\xff.so");
        assert_eq!(found[2].path, PathBuf::from("[vdso]"));
        assert_eq!(found[3].path, PathBuf::new());
    }
}
