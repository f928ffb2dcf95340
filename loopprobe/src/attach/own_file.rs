//! Probing loopprobe's own functions: where they are in its file.

use super::{AttachError, PlannedImage, Probe, Role};
use crate::{
    elf::{Image, ProcAddr, VirtAddr},
    process::{ImageFile, Mapping, Maps},
};

/// loopprobe's own executable.
pub(super) struct OwnFile {
    maps: Maps,
    file: ImageFile,
    image: Image,
}

impl OwnFile {
    /// The file of one of its functions.
    ///
    /// # Errors
    ///
    /// [`AttachError::Object`] if it cannot be read.
    pub(super) fn open(function: ProcAddr) -> Result<Self, AttachError> {
        let pid = std::process::id();
        let maps = Maps::read(pid).map_err(|e| failed(&e))?;
        let mapping = mapping(&maps, function)?;
        let file = ImageFile::open(pid, mapping).map_err(|e| failed(&e))?;
        let image = Image::open(&file.path()).map_err(|e| failed(&e))?;
        Ok(Self { maps, file, image })
    }

    /// Where a function is probed in the file, and where that is hit.
    ///
    /// # Errors
    ///
    /// [`AttachError::Object`] if it is not there.
    pub(super) fn site(&self, address: ProcAddr) -> Result<(OwnSite, ProcAddr), AttachError> {
        let begins = mapping(&self.maps, address)?
            .to_file(address)
            .ok_or_else(|| failed(&"its code is not in its file"))?;
        let entry = self.image.address(begins).unwrap_or(VirtAddr(0));
        let offset = crate::code::probe_point(&self.image, entry)
            .and_then(|point| self.image.file_offset(point.address))
            .unwrap_or(begins);
        let probe = Probe {
            offset: offset.0,
            cookie: 0,
        };
        let file = self.file.file.try_clone().map_err(|e| failed(&e))?;
        let file = ImageFile {
            file,
            metadata: self.file.metadata.clone(),
        };
        // As far behind the function's address as the probe was moved.
        let hit = ProcAddr(address.0 + (offset.0 - begins.0));
        Ok((OwnSite { file, probe }, hit))
    }
}

fn mapping(maps: &Maps, address: ProcAddr) -> Result<&Mapping, AttachError> {
    maps.at(address)
        .ok_or_else(|| failed(&"its code is not mapped from a file"))
}

fn failed(error: &dyn std::fmt::Display) -> AttachError {
    AttachError::Object(format!("cannot probe loopprobe itself: {error}"))
}

/// A function of loopprobe's own, and where it is probed.
pub(super) struct OwnSite {
    file: ImageFile,
    pub(super) probe: Probe,
}

impl OwnSite {
    /// The same with probes of these roles.
    pub(super) fn with(self, roles: &[Role]) -> PlannedImage {
        PlannedImage {
            file: self.file,
            probes: roles.iter().map(|role| (*role, vec![self.probe])).collect(),
            runtime: None,
        }
    }
}
