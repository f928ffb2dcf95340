//! Where each type's tasks keep id, scheduler and trailer, in bytes from the header.

use std::{collections::HashMap, sync::Arc};

use crate::{
    model::TaskKind,
    runtime::{MappedImage, ServedType},
};

/// Where a task of one type keeps what is read.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// The type.
    pub served: Arc<ServedType>,
    /// Its image's index.
    pub image: usize,
    /// Bytes from the header to the trailer.
    pub trailer: u64,
    /// Bytes from the header to the scheduler.
    pub scheduler: u64,
    /// Bytes from the header to the id.
    pub id: u64,
    /// Whether it is a closure on the blocking pool, or a worker of a runtime, which is one too.
    pub is_blocking: bool,
}

/// The layouts of all types, by the addresses of their vtables in the process.
#[derive(Debug, Default)]
pub(super) struct Layouts {
    by_vtable: HashMap<u64, Arc<Layout>>,
    low: u64,
    high: u64,
}

impl Layouts {
    /// Those of images' types that tell all of it.
    pub(super) fn of(images: &[MappedImage]) -> Self {
        let mut by_vtable = HashMap::new();
        for (index, mapped) in images.iter().enumerate() {
            let sites = mapped.image.facts().sites.iter();
            for served in sites.flat_map(|site| &site.types) {
                let is_told = served.scheduler_offset != 0 && served.id_offset != 0;
                if is_told && served.size != 0 {
                    let vtable = served.key.0.wrapping_add(mapped.bias);
                    by_vtable.insert(vtable, Arc::new(Layout::new(served, index)));
                }
            }
        }
        Self {
            low: by_vtable.keys().min().copied().unwrap_or(u64::MAX),
            high: by_vtable.keys().max().copied().unwrap_or(0),
            by_vtable,
        }
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.by_vtable.is_empty()
    }

    /// The layout of the type with the vtable at `address`, if there is one.
    pub(super) fn at(&self, address: u64) -> Option<&Arc<Layout>> {
        match (self.low..=self.high).contains(&address) {
            true => self.by_vtable.get(&address),
            false => None,
        }
    }

    /// Any of them.
    pub(super) fn any(&self) -> Option<&Arc<Layout>> {
        self.by_vtable.values().next()
    }
}

#[cfg(test)]
impl Layouts {
    /// One type, with its vtable at this address, and the trailer so many bytes behind the header.
    pub(crate) fn of_one(vtable: u64, trailer: u64) -> Self {
        use crate::{elf::VirtAddr, model::TaskType};
        let mut served = ServedType::without_header(VirtAddr(1), TaskType::unknown(0));
        served.scheduler_offset = 0x20;
        served.id_offset = 0x28;
        served.size = trailer as u32;
        Self {
            by_vtable: HashMap::from([(vtable, Arc::new(Layout::new(&served, 0)))]),
            low: vtable,
            high: vtable,
        }
    }
}

impl Layout {
    fn new(served: &ServedType, image: usize) -> Self {
        Self {
            trailer: served.size.into(),
            scheduler: served.scheduler_offset.into(),
            id: served.id_offset.into(),
            is_blocking: served.task.kind == TaskKind::Blocking,
            served: Arc::new(served.clone()),
            image,
        }
    }
}
