//! Parses `/proc/PID/maps`: mapped files, code in no file, the vDSO, the kernel's probe pages.

use std::{
    collections::HashSet,
    ffi::OsString,
    fs::{self, File},
    io::{self, Read as _},
    ops::Range,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::{Path, PathBuf},
};

use super::ProcessError;
use crate::elf::{FileOffset, ProcAddr};

/// A part of a file that a process has mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Where it begins.
    pub start: ProcAddr,
    /// Where it ends: the first address after it.
    pub end: ProcAddr,
    /// Which byte of the file lies at `start`.
    pub file_offset: FileOffset,
    /// Whether its bytes can be executed.
    pub executable: bool,
    /// Major and minor number of the file's device, as the kernel's memory map knows it. On btrfs
    /// and overlayfs it is not the one that `stat` shows.
    pub device: (u32, u32),
    /// The file's inode number.
    pub inode: u64,
    /// The file's path in the mount namespace of the process, without the kernel's ` (deleted)`.
    pub path: PathBuf,
    /// Whether the file has been removed or replaced since.
    pub deleted: bool,
}

impl Mapping {
    /// What tells files apart: device and inode.
    pub fn file_id(&self) -> ((u32, u32), u64) {
        (self.device, self.inode)
    }

    /// Where an address of the process lies in the file.
    pub fn to_file(&self, address: ProcAddr) -> Option<FileOffset> {
        let distance = address.0.checked_sub(self.start.0)?;
        (address.0 < self.end.0)
            .then(|| self.file_offset.0.checked_add(distance))
            .flatten()
            .map(FileOffset)
    }
}

/// The files in a process's memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Maps {
    /// Every mapping of a file, by address.
    pub mappings: Vec<Mapping>,
    /// Executable memory that belongs to no file, by address: code that is generated at run time.
    /// Other anonymous memory is left out.
    pub generated: Vec<Range<ProcAddr>>,
    /// The vDSO, a small library that the kernel provides.
    pub vdso: Option<Range<ProcAddr>>,
    /// Pages that the kernel has added for probes: `[uprobes]` and, for probes on `nop5` from Linux
    /// 6.18 on, `[uprobes-trampoline]`. What runs there is never the program's own.
    pub uprobes: Vec<Range<ProcAddr>>,
}

impl Maps {
    /// Reads a process's memory map.
    ///
    /// # Errors
    ///
    /// [`ProcessError::NotFound`] if the process is gone, [`ProcessError::NoMemory`] for a zombie
    /// or kernel thread, [`ProcessError::Denied`] also where the map can be read but the files
    /// cannot be opened.
    pub fn read(pid: u32) -> Result<Self, ProcessError> {
        const FILE: &str = "maps";
        let text = whole(&format!("/proc/{pid}/{FILE}"))
            .map_err(|error| ProcessError::reading(pid, FILE, error))?;
        if text.is_empty() {
            return Err(ProcessError::NoMemory { pid });
        }
        may_open_files(pid)?;
        Self::parse(&text).map_err(|text| ProcessError::Format {
            pid,
            file: FILE,
            text,
        })
    }

    /// The executable mappings.
    pub fn executable(&self) -> impl Iterator<Item = &Mapping> {
        self.mappings.iter().filter(|mapping| mapping.executable)
    }

    /// One executable mapping of each file that has any, in the order of their addresses.
    pub fn images(&self) -> impl Iterator<Item = &Mapping> {
        let mut seen = HashSet::new();
        self.executable()
            .filter(move |mapping| seen.insert(mapping.file_id()))
    }

    /// The file mapping at an address.
    pub fn at(&self, address: ProcAddr) -> Option<&Mapping> {
        let after = self
            .mappings
            .partition_point(|mapping| mapping.start <= address);
        let mapping = self.mappings.get(after.checked_sub(1)?)?;
        (address < mapping.end).then_some(mapping)
    }

    /// Reads the text of a `maps` file. Lines are bytes: a path may hold anything but a newline,
    /// which the kernel escapes.
    ///
    /// # Errors
    ///
    /// The first line that cannot be read, escaped.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let mut maps = Self::default();
        for line in text
            .split(|&byte| byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            let line = Line::parse(line).ok_or_else(|| line.escape_ascii().to_string())?;
            if line.name == b"[vdso]" {
                maps.vdso = Some(line.start..line.end);
            } else if line.name.starts_with(b"[uprobes") {
                maps.uprobes.push(line.start..line.end);
            } else if line.inode != 0 && line.name.starts_with(b"/") {
                maps.mappings.push(line.into_mapping());
            } else if line.is_generated() {
                maps.generated.push(line.start..line.end);
            }
        }
        Ok(maps)
    }
}

/// A file whose size nobody knows before it is read, in few system calls.
fn whole(path: &str) -> io::Result<Vec<u8>> {
    let mut text = Vec::with_capacity(64 << 10);
    File::open(path)?.read_to_end(&mut text)?;
    Ok(text)
}

/// The region of a process's memory around an address, of whatever kind.
pub fn region_at(pid: u32, address: u64) -> Option<Range<u64>> {
    let text = whole(&format!("/proc/{pid}/maps")).ok()?;
    text.split(|&byte| byte == b'\n')
        .filter_map(Line::parse)
        .map(|line| line.start.0..line.end.0)
        .find(|range| range.contains(&address))
}

/// The writable memory of a process that belongs to no file and to nobody else, from the text of
/// its `maps`: heaps and stacks. Lines that cannot be read are left out.
pub(super) fn anonymous(text: &[u8]) -> Vec<Range<ProcAddr>> {
    let lines = text.split(|&byte| byte == b'\n').filter_map(Line::parse);
    let heap = lines.filter(|line| {
        let is_own = [&b"[heap]"[..], b"[stack]"].contains(&line.name);
        let is_kernels = line.name.starts_with(b"[") && !is_own;
        line.private_writable && line.inode == 0 && (!is_kernels || line.name.starts_with(b"[anon"))
    });
    heap.map(|line| line.start..line.end).collect()
}

/// Since Linux 6.15 CAP_PERFMON is enough to read the map (`may_access_mm`, `kernel/fork.c`). What
/// leads to the files still takes the permission to trace the process.
fn may_open_files(pid: u32) -> Result<(), ProcessError> {
    const FILE: &str = "exe";
    match fs::read_link(format!("/proc/{pid}/{FILE}")) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(ProcessError::reading(pid, FILE, error))
        }
        _ => Ok(()),
    }
}

/// One line, as `show_map_vma` writes it (`fs/proc/task_mmu.c`, Linux 6.18):
/// `start-end perms offset major:minor inode   name`.
struct Line<'a> {
    start: ProcAddr,
    end: ProcAddr,
    executable: bool,
    private_writable: bool,
    offset: u64,
    device: (u32, u32),
    inode: u64,
    name: &'a [u8],
}

impl<'a> Line<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut fields = line.splitn(6, |&byte| byte == b' ');
        let mut next = || std::str::from_utf8(fields.next()?).ok();
        let (start, end) = next()?.split_once('-')?;
        let perms = next()?;
        let offset = next()?;
        let (major, minor) = next()?.split_once(':')?;
        let inode = next()?;
        Some(Self {
            start: ProcAddr(hex(start)?),
            end: ProcAddr(hex(end)?),
            executable: perms.as_bytes().get(2) == Some(&b'x'),
            private_writable: perms.starts_with("rw") && perms.ends_with('p'),
            offset: hex(offset)?,
            device: (
                u32::try_from(hex(major)?).ok()?,
                u32::try_from(hex(minor)?).ok()?,
            ),
            inode: inode.parse().ok()?,
            name: fields.next().unwrap_or_default().trim_ascii_start(),
        })
    }

    /// `[uprobes]` and `[vsyscall]` are the kernel's; named anonymous memory begins with `[anon`.
    fn is_generated(&self) -> bool {
        self.executable
            && self.inode == 0
            && (self.name.is_empty() || self.name.starts_with(b"[anon"))
    }

    fn into_mapping(self) -> Mapping {
        let (path, deleted) = match self.name.strip_suffix(b" (deleted)") {
            Some(path) => (path, true),
            None => (self.name, false),
        };
        Mapping {
            start: self.start,
            end: self.end,
            file_offset: FileOffset(self.offset),
            executable: self.executable,
            device: self.device,
            inode: self.inode,
            path: unescape(path),
            deleted,
        }
    }
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

/// Undoes the kernel's `\012` for a newline, the only byte that it escapes here (`seq_path(m, path,
/// "\n")`).
fn unescape(path: &[u8]) -> PathBuf {
    const NEWLINE: &[u8] = b"\\012";
    if !path.windows(NEWLINE.len()).any(|window| window == NEWLINE) {
        return Path::new(std::ffi::OsStr::from_bytes(path)).to_owned();
    }
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&byte, tail)) = rest.split_first() {
        match rest.strip_prefix(NEWLINE) {
            Some(after) => {
                out.push(b'\n');
                rest = after;
            }
            None => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    OsString::from_vec(out).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"\
55d0c0000000-55d0c0001000 r--p 00000000 08:01 42                         /usr/bin/a b
55d0c0001000-55d0c0003000 r-xp 00001000 08:01 42                         /usr/bin/a b
55d0c1000000-55d0c1021000 rw-p 00000000 00:00 0                          [heap]
7f0000000000-7f0000001000 r-xp 00000000 fe:10 7                          /lib/x\\012\xff.so (deleted)
7f0000002000-7f0000003000 rw-s 00000000 00:01 9                          /SYSV
7f0000004000-7f0000005000 rw-p 00000000 00:00 0
7ffc00000000-7ffc00002000 r-xp 00000000 00:00 0                          [vdso]
7fffffffe000-7ffffffff000 --xp 00000000 00:00 0                          [uprobes]
";

    #[test]
    fn keeps_files_and_the_vdso() {
        let maps = Maps::parse(TEXT).unwrap();
        assert_eq!(maps.mappings.len(), 4);
        assert_eq!(maps.executable().count(), 2);
        assert_eq!(
            maps.vdso,
            Some(ProcAddr(0x7ffc_0000_0000)..ProcAddr(0x7ffc_0000_2000))
        );
        let text = &maps.mappings[1];
        assert_eq!(text.path, Path::new("/usr/bin/a b"));
        assert_eq!((text.device, text.inode), ((8, 1), 42));
        assert_eq!(
            text.to_file(ProcAddr(0x55d0_c000_1010)),
            Some(FileOffset(0x1010))
        );
        assert_eq!(text.to_file(text.end), None);
    }

    #[test]
    fn keeps_the_pages_of_probes_apart() {
        let maps = Maps::parse(TEXT).unwrap();
        assert_eq!(
            maps.uprobes,
            [ProcAddr(0x7fff_ffff_e000)..ProcAddr(0x7fff_ffff_f000)]
        );
    }

    #[test]
    fn a_path_may_hold_any_byte() {
        let library = &Maps::parse(TEXT).unwrap().mappings[2];
        assert!(library.deleted);
        assert_eq!(library.path.as_os_str().as_bytes(), b"/lib/x\n\xff.so");
    }

    #[test]
    fn finds_the_mapping_at_an_address() {
        let maps = Maps::parse(TEXT).unwrap();
        assert_eq!(maps.at(ProcAddr(0x7f00_0000_0fff)).unwrap().inode, 7);
        assert_eq!(maps.at(ProcAddr(0x7f00_0000_1000)), None);
        assert_eq!(maps.at(ProcAddr(0)), None);
    }

    #[test]
    fn heaps_are_anonymous_private_and_writable() {
        let found = anonymous(TEXT);
        let starts: Vec<u64> = found.iter().map(|range| range.start.0).collect();
        assert_eq!(starts, [0x55d0_c100_0000, 0x7f00_0000_4000]);
    }

    #[test]
    fn names_the_line_it_cannot_read() {
        assert_eq!(Maps::parse(b"nonsense\n"), Err("nonsense".to_owned()));
    }

    #[test]
    fn a_zombie_or_a_missing_process_is_told_apart() {
        assert!(matches!(
            Maps::read(u32::MAX >> 1),
            Err(ProcessError::NotFound { .. })
        ));
    }

    #[test]
    fn reads_this_very_process() {
        let maps = Maps::read(std::process::id()).unwrap();
        let here = reads_this_very_process as fn() as usize as u64;
        let mapping = maps.at(ProcAddr(here)).unwrap();
        assert!(mapping.executable);
        assert_eq!(mapping.path, std::env::current_exe().unwrap());
    }
}
