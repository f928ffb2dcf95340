use std::{
    fs::File,
    ops::Range,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::{image::Image, mapping::Mapping, memory::Memory, memory::PAGE};
use crate::elf::{FileOffset, ProcAddr, VirtAddr};

/// The vDSO has two pages or three; nothing that calls itself so is read beyond this.
const MAX_VDSO_BYTES: u64 = 64 << 10;

/// An executable or a library in a process, at its address.
#[derive(Debug)]
pub struct Module {
    id: u32,
    path: PathBuf,
    file: Option<File>,
    identity: Identity,
    range: Range<u64>,
    bias: u64,
    pub(crate) image: Image,
}

/// What tells one mapped file from another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    device: (u32, u32),
    inode: u64,
    path: PathBuf,
    bias: u64,
}

impl Module {
    /// A number of its own in the session, for caches.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The path as the process sees it; `[vdso]` for the vDSO.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file that is mapped, held open: it stays readable when it is replaced or deleted, when it lies in another
    /// mount namespace, and after the process has ended. `None` for the vDSO.
    pub fn file(&self) -> Option<&File> {
        self.file.as_ref()
    }

    /// Add this to an address of the file to get the address in the process. Wraps around.
    pub fn bias(&self) -> u64 {
        self.bias
    }

    /// The address in the file for an address in the process.
    pub fn virt(&self, address: ProcAddr) -> VirtAddr {
        VirtAddr(address.0.wrapping_sub(self.bias))
    }

    /// The position in the file for an address in the process, where the file holds it.
    pub fn offset(&self, address: ProcAddr) -> Option<FileOffset> {
        self.image.file_offset(self.virt(address))
    }

    /// The function that covers an address, as the unwind table knows it.
    pub fn function_at(&self, address: VirtAddr) -> Option<Range<VirtAddr>> {
        self.image.function_at(address)
    }

    pub(crate) fn range(&self) -> Range<u64> {
        self.range.clone()
    }

    /// Reads the module that a mapping belongs to; `None` where it is no ELF image that can be read.
    pub(crate) fn load(pid: u32, id: u32, mapping: &Mapping) -> Option<Self> {
        let (file, image) = if mapping.path == Path::new("[vdso]") {
            (None, read_vdso(pid, mapping)?)
        } else if mapping.inode != 0 {
            let file = open(pid, mapping)?;
            let image = Image::read(&file)?;
            (Some(file), image)
        } else {
            return None;
        };
        let bias = bias(&image, mapping)?;
        Some(Self {
            id,
            path: mapping.path.clone(),
            file,
            identity: Identity::of(mapping, bias),
            range: mapping.start..mapping.end,
            bias,
            image,
        })
    }

    /// Whether a mapping is this module's or a piece of it.
    pub(crate) fn holds(&self, mapping: &Mapping) -> bool {
        self.range.contains(&mapping.start) && mapping.end <= self.range.end && self.is(mapping)
    }

    fn is(&self, mapping: &Mapping) -> bool {
        bias(&self.image, mapping).is_some_and(|bias| Identity::of(mapping, bias) == self.identity)
    }

    /// Whether a mapping is a further piece of this module; if so, the module grows by it.
    pub(crate) fn absorb(&mut self, mapping: &Mapping) -> bool {
        let same = self.is(mapping);
        if same {
            self.range.start = self.range.start.min(mapping.start);
            self.range.end = self.range.end.max(mapping.end);
        }
        same
    }
}

impl Identity {
    fn of(mapping: &Mapping, bias: u64) -> Self {
        Self {
            device: mapping.device,
            inode: mapping.inode,
            path: mapping.path.clone(),
            bias,
        }
    }
}

/// What the loader added to the file's addresses: the segment that was mapped here lies, rounded down to a page, at the
/// mapping's start. A mapping that was split begins inside its segment.
fn bias(image: &Image, mapping: &Mapping) -> Option<u64> {
    let segment = image
        .segments
        .iter()
        .filter(|segment| segment.executable)
        .find(|segment| {
            let start = segment.offset & !(PAGE - 1);
            (start..segment.offset.saturating_add(segment.file_size)).contains(&mapping.offset)
        })?;
    let start = segment.offset & !(PAGE - 1);
    let address = (segment.address & !(PAGE - 1)).wrapping_add(mapping.offset - start);
    Some(mapping.start.wrapping_sub(address))
}

/// Opens the file behind a mapping. `map_files` names exactly what is mapped but needs more privilege, so the path in
/// the process's own root comes first, if it still leads to the same file.
fn open(pid: u32, mapping: &Mapping) -> Option<File> {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let seen = mapping
        .path
        .strip_prefix("/")
        .ok()
        .filter(|_| !mapping.deleted)
        .and_then(|path| open_regular(&process.join("root").join(path)));
    seen.filter(|file| is_mapped(file, mapping))
        .or_else(|| {
            let range = format!("{:x}-{:x}", mapping.start, mapping.end);
            open_regular(&process.join("map_files").join(range))
        })
        .or_else(|| open_regular(&process.join("exe")).filter(|file| is_mapped(file, mapping)))
}

/// Opens a path of the target's making: takes regular files only, and does not wait for a FIFO's other end.
fn open_regular(path: &Path) -> Option<File> {
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)
        .ok()?;
    file.metadata().ok()?.is_file().then_some(file)
}

/// Whether an open file is the mapped one. The device is not compared: file systems like overlayfs and btrfs print
/// another in `maps` than `stat` gives.
fn is_mapped(file: &File, mapping: &Mapping) -> bool {
    file.metadata()
        .is_ok_and(|metadata| metadata.ino() == mapping.inode)
}

fn read_vdso(pid: u32, mapping: &Mapping) -> Option<Image> {
    let size = (mapping.end.checked_sub(mapping.start)?).min(MAX_VDSO_BYTES);
    let mut bytes = vec![0; usize::try_from(size).ok()?];
    let read = Memory::of(pid).read(ProcAddr(mapping.start), &mut bytes);
    Image::read(&bytes[..read])
}
