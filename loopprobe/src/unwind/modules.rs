//! All that a process has mapped, read again when an address is unknown, not too often.

use std::{
    collections::HashSet,
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use framehop::{ExplicitModuleSectionInfo, Unwinder as _};

use super::{
    Module, host,
    section::{Section, SharedBytes},
};
use crate::{
    elf::ProcAddr,
    process::{Mapping, Maps, ProcessError},
};

/// How long an unknown address must wait before the mappings are read again: code that is generated
/// at run time has no module and would otherwise cause a read a stack.
const RELOAD_INTERVAL: Duration = Duration::from_millis(250);
/// More modules than any process maps in earnest.
const MAX_MODULES: usize = 4096;

/// The modules of a process, and framehop's view of them.
pub(crate) struct Modules {
    /// The process to read mappings from, if there is one.
    pid: Option<u32>,
    loaded: Vec<Arc<Module>>,
    /// Executable memory that belongs to no file: code that is generated at run time.
    generated: Vec<Range<ProcAddr>>,
    uprobes: Vec<Range<ProcAddr>>,
    next_id: u32,
    last_read: Instant,
    pub framehop: host::Unwinder,
    /// Those that framehop knows, by number: those that were on a stack.
    described: HashSet<u32>,
}

impl Modules {
    /// Reads all modules that are mapped now.
    pub(super) fn of(pid: u32) -> Result<Self, ProcessError> {
        let mut modules = Self::empty(Some(pid));
        modules.reload()?;
        Ok(modules)
    }

    /// These modules of no process: there is nothing to read again.
    pub(super) fn fixed(modules: Vec<Module>) -> Self {
        let mut fixed = Self::empty(None);
        let mut current: Vec<_> = modules.into_iter().map(Arc::new).collect();
        current.sort_by_key(|module| module.range().start);
        fixed.replace(current);
        fixed
    }

    fn empty(pid: Option<u32>) -> Self {
        Self {
            pid,
            loaded: Vec::new(),
            generated: Vec::new(),
            uprobes: Vec::new(),
            next_id: 0,
            last_read: Instant::now(),
            framehop: host::unwinder(),
            described: HashSet::new(),
        }
    }

    /// All modules, by address.
    pub(super) fn all(&self) -> &[Arc<Module>] {
        &self.loaded
    }

    /// The module at an address, if it is known.
    pub(super) fn at(&self, address: ProcAddr) -> Option<&Arc<Module>> {
        let after = self
            .loaded
            .partition_point(|module| module.range().start <= address.0);
        let module = self.loaded.get(after.checked_sub(1)?)?;
        module.range().contains(&address.0).then_some(module)
    }

    /// Whether code that was generated at run time may lie at an address.
    pub(super) fn is_generated(&self, address: ProcAddr) -> bool {
        let after = self
            .generated
            .partition_point(|range| range.start <= address);
        after
            .checked_sub(1)
            .and_then(|index| self.generated.get(index))
            .is_some_and(|range| range.contains(&address))
    }

    /// Whether an address lies in a page that the kernel has added for probes. The page comes with
    /// the first return probe that fires, so a stack may show it before the mappings have been read
    /// again.
    pub(super) fn is_uprobe(&self, address: ProcAddr) -> bool {
        let mut usual = host::UPROBES.iter();
        usual.any(|(start, end)| (*start..*end).contains(&address.0))
            || self.uprobes.iter().any(|page| page.contains(&address))
    }

    /// Makes sure that a module that was mapped meanwhile is known; within the limit on how often
    /// mappings are read.
    pub(super) fn expect(&mut self, address: ProcAddr) {
        if self.at(address).is_none()
            && !self.is_generated(address)
            && !self.is_uprobe(address)
            && self.last_read.elapsed() >= RELOAD_INTERVAL
        {
            // A process that has ended has no mappings; what is known of it stays.
            let _ = self.reload();
        }
    }

    /// Reads the mappings again: adds what is new, forgets what is gone.
    pub(super) fn reload(&mut self) -> Result<(), ProcessError> {
        let Some(pid) = self.pid else {
            return Ok(());
        };
        self.last_read = Instant::now();
        let maps = Maps::read(pid)?;
        self.uprobes.clone_from(&maps.uprobes);
        let mappings: Vec<&Mapping> = maps.executable().take(MAX_MODULES).collect();
        let mut current = self.resolve(pid, &mappings);
        current.extend(self.vdso(pid, &maps));
        current.sort_by_key(|module| module.range().start);
        self.replace(current);
        self.generated = maps.generated;
        Ok(())
    }

    /// The modules behind mappings; those that are known already are taken over.
    fn resolve(&mut self, pid: u32, mappings: &[&Mapping]) -> Vec<Arc<Module>> {
        let mut current: Vec<Arc<Module>> = Vec::new();
        let mut fresh: Vec<Module> = Vec::new();
        for mapping in mappings {
            if let Some(known) = self.loaded.iter().find(|module| module.holds(mapping)) {
                if !current.iter().any(|module| module.id() == known.id()) {
                    current.push(Arc::clone(known));
                }
            } else if !fresh.last_mut().is_some_and(|last| last.absorb(mapping))
                && let Some(module) = Module::load(pid, self.next_id, mapping)
            {
                self.next_id += 1;
                fresh.push(module);
            }
        }
        current.extend(fresh.into_iter().map(Arc::new));
        current
    }

    fn vdso(&mut self, pid: u32, maps: &Maps) -> Option<Arc<Module>> {
        let range = maps.vdso.as_ref()?;
        let mapped = range.start.0..range.end.0;
        let known = self
            .loaded
            .iter()
            .find(|module| module.file().is_none() && module.range() == mapped);
        if let Some(known) = known {
            return Some(Arc::clone(known));
        }
        let vdso = Module::load_vdso(pid, self.next_id, range)?;
        self.next_id += 1;
        Some(Arc::new(vdso))
    }

    fn replace(&mut self, current: Vec<Arc<Module>>) {
        for gone in &self.loaded {
            let is_gone = !current.iter().any(|module| module.id() == gone.id());
            if is_gone && self.described.remove(&gone.id()) {
                self.framehop.remove_module(gone.range().start);
            }
        }
        self.loaded = current;
    }

    /// The module at an address on a stack, which framehop knows from then on.
    pub(super) fn on_stack(&mut self, address: ProcAddr) -> Option<Arc<Module>> {
        let module = Arc::clone(self.at(address)?);
        if self.described.insert(module.id()) {
            self.framehop.add_module(describe(&module));
        }
        Some(module)
    }
}

/// A module in framehop's terms.
fn describe(module: &Module) -> framehop::Module<SharedBytes> {
    let (image, frames) = (&module.image, module.image.frames());
    // Addresses in a module are relative to its base and have 32 bits there, so the base is the
    // lowest segment.
    let base = image
        .segments
        .iter()
        .map(|segment| segment.address)
        .min()
        .unwrap_or(0);
    let section = |section: &Option<Section>| {
        section
            .as_ref()
            .map(|section| (section.range(), section.bytes.clone()))
            .unzip()
    };
    let (eh_frame_svma, eh_frame) = section(&frames.eh_frame);
    let (eh_frame_hdr_svma, eh_frame_hdr) = section(&frames.eh_frame_hdr);
    framehop::Module::new(
        module.path().to_string_lossy().into_owned(),
        module.range(),
        base.wrapping_add(module.bias()),
        ExplicitModuleSectionInfo {
            base_svma: base,
            eh_frame_svma,
            eh_frame,
            eh_frame_hdr_svma,
            eh_frame_hdr,
            debug_frame: frames.debug_frame.clone(),
            ..ExplicitModuleSectionInfo::default()
        },
    )
}
