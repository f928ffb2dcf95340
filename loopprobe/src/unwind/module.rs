//! One executable or library at its address in a process, its file held open.

use std::{
    fs::File,
    ops::Range,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    image::{Image, Segment},
    shared,
};
use crate::{
    elf::{FileOffset, ProcAddr, VirtAddr},
    process::{CodeSegment, ImageFile, Mapping, Memory},
};

/// What the kernel calls the vDSO in its memory maps.
const VDSO: &str = "[vdso]";
/// The vDSO has two pages or three; nothing that calls itself so is read beyond this.
const MAX_VDSO_BYTES: u64 = 64 << 10;

/// An executable or a library in a process, at its address.
#[derive(Debug)]
pub struct Module {
    id: u32,
    path: PathBuf,
    file: Option<File>,
    identity: Option<Identity>,
    range: Range<u64>,
    bias: u64,
    pub(crate) image: Arc<Image>,
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

    /// The file that is mapped, held open: it stays readable when it is replaced or deleted, when
    /// it lies in another mount namespace, and after the process has ended. `None` for the vDSO.
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
        self.file_offset(self.virt(address))
    }

    /// The position in the file for an address in the file, where the file holds it.
    pub fn file_offset(&self, address: VirtAddr) -> Option<FileOffset> {
        self.image.file_offset(address)
    }

    /// The function that covers an address, as the unwind table knows it.
    pub fn function_at(&self, address: VirtAddr) -> Option<Range<VirtAddr>> {
        self.image.function_at(address)
    }

    /// Whether there is unwind information for an address.
    pub(super) fn is_covered(&self, address: VirtAddr) -> bool {
        if self.image.frames().eh_frame_hdr.is_some() {
            self.function_at(address).is_some()
        } else {
            self.image.has_unwind_info()
        }
    }

    /// Whether an address of the process lies in this module.
    pub(crate) fn contains(&self, address: ProcAddr) -> bool {
        self.range.contains(&address.0)
    }

    /// Reads code from an address on, at most to the end of its segment; returns how many bytes.
    pub(crate) fn code(&self, address: VirtAddr, bytes: &mut [u8]) -> usize {
        self.bytes(address, bytes, |segment| segment.executable)
    }

    /// Reads bytes of the image, as they lie in the file; returns how many.
    pub(crate) fn bytes(
        &self,
        address: VirtAddr,
        bytes: &mut [u8],
        wanted: impl Fn(&Segment) -> bool,
    ) -> usize {
        let segment = self.image.segment_at(address.0).filter(|s| wanted(s));
        let (Some(segment), Some(file)) = (segment, &self.file) else {
            return 0;
        };
        let skipped = address.0 - segment.address;
        let left = usize::try_from(segment.file_size - skipped).unwrap_or(usize::MAX);
        let len = bytes.len().min(left);
        file.read_at(&mut bytes[..len], segment.offset + skipped)
            .unwrap_or(0)
    }

    pub(crate) fn range(&self) -> Range<u64> {
        self.range.clone()
    }

    /// Reads the module that a mapping belongs to; `None` where it is no ELF image that can be
    /// read.
    pub(crate) fn load(pid: u32, id: u32, mapping: &Mapping) -> Option<Self> {
        Self::of_file(id, ImageFile::open(pid, mapping).ok()?.file, mapping)
    }

    /// The module that a mapping of `file` belongs to; `None` where it is no ELF image that can be
    /// read.
    pub fn of_file(id: u32, file: File, mapping: &Mapping) -> Option<Self> {
        let image = shared::read(&file)?;
        let bias = bias(&image, mapping)?;
        Some(Self {
            id,
            path: mapping.path.clone(),
            file: Some(file),
            identity: Some(Identity::of(mapping, bias)),
            range: mapping.start.0..mapping.end.0,
            bias,
            image,
        })
    }

    /// Reads the vDSO from the process's memory.
    pub(crate) fn load_vdso(pid: u32, id: u32, range: &Range<ProcAddr>) -> Option<Self> {
        let size = range.end.0.checked_sub(range.start.0)?.min(MAX_VDSO_BYTES);
        let mut bytes = vec![0; usize::try_from(size).ok()?];
        let read = Memory::of(pid).read(range.start, &mut bytes);
        let image = Arc::new(Image::read(bytes.get(..read)?)?);
        let first = image.segments.first()?.address;
        Some(Self {
            id,
            path: PathBuf::from(VDSO),
            file: None,
            identity: None,
            range: range.start.0..range.end.0,
            bias: range.start.0.wrapping_sub(first),
            image,
        })
    }

    /// Whether a mapping is this module's or a piece of it.
    pub(crate) fn holds(&self, mapping: &Mapping) -> bool {
        self.range.contains(&mapping.start.0) && mapping.end.0 <= self.range.end && self.is(mapping)
    }

    fn is(&self, mapping: &Mapping) -> bool {
        self.identity.as_ref().is_some_and(|identity| {
            bias(&self.image, mapping).is_some_and(|bias| Identity::of(mapping, bias) == *identity)
        })
    }

    /// Whether a mapping is a further piece of this module; if so, the module grows by it.
    pub(crate) fn absorb(&mut self, mapping: &Mapping) -> bool {
        let same = self.is(mapping);
        if same {
            self.range.start = self.range.start.min(mapping.start.0);
            self.range.end = self.range.end.max(mapping.end.0);
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

/// What the loader added to the file's addresses.
fn bias(image: &Image, mapping: &Mapping) -> Option<u64> {
    let code = image.segments.iter().filter(|segment| segment.executable);
    mapping.load_bias(code.map(|segment| CodeSegment {
        address: VirtAddr(segment.address),
        offset: FileOffset(segment.offset),
        file_size: segment.file_size,
    }))
}
