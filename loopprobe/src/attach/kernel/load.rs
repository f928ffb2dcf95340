//! One load of the kernel side: programs and tables, which several targets may share.

use std::{
    collections::{HashMap, HashSet},
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
};

use super::{Settings, batch, rows::Rows, sizes::Sizes};
use crate::attach::{
    AttachError, Links, Method, Role,
    btf::{self, TaskOffsets},
    object::OBJECT,
    records::Post,
    sys, uprobe,
};
use aya::{
    Ebpf, EbpfLoader, Pod,
    maps::{Map, MapData, MapError, RingBuf},
};
use aya_obj::{Object, generated::bpf_insn};

/// What targets of one load have in common: it is part of the programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Purpose {
    light: bool,
    lag: bool,
    slow_ns: u64,
    watch: bool,
    roots_only: bool,
    sample_hz: u32,
    method: Option<Method>,
}

impl Purpose {
    /// Whether polls are timed by their entries alone.
    pub(super) fn is_light(&self) -> bool {
        self.light
    }

    /// Whether it is told how long tasks are scheduled before they are polled.
    pub(super) fn has_delays(&self) -> bool {
        self.lag
    }

    pub(super) fn of(settings: &Settings) -> Self {
        Self {
            light: settings.light,
            lag: settings.lag,
            slow_ns: settings.slow_ns,
            watch: settings.watch,
            roots_only: settings.roots_only,
            sample_hz: settings.sample_hz,
            method: settings.method,
        }
    }
}

/// Programs and tables.
pub(super) struct Load {
    pub(super) purpose: Purpose,
    pub(super) has_thread_pointer: bool,
    /// How probes are placed.
    pub(super) method: Method,
    pub(super) instructions: HashMap<&'static str, Vec<bpf_insn>>,
    /// How many places each target may have answered.
    pub(super) most_places: u32,
    tables: Mutex<Tables>,
    canary: Mutex<CanaryPlace>,
    /// The program that reads threads' registers, once it has been wanted.
    registers: OnceLock<OwnedFd>,
}

/// Its name.
const REGISTERS: &str = "task_registers";

/// Where loopprobe's own function is in the tables, and its probes: all targets share them.
#[derive(Default)]
pub(super) struct CanaryPlace {
    pub(super) links: Weak<Links>,
    /// The number of its site, and of its task type.
    pub(super) rows: Option<(u32, u32)>,
}

/// What one target at a time may touch.
pub(super) struct Tables {
    // Emptied by a thread of its own, once somebody wants what comes.
    pub(super) post: Option<Arc<Post>>,
    pub(super) ebpf: Ebpf,
    programs: HashMap<Role, Arc<OwnedFd>>,
    pub(super) targets: Rows,
    pub(super) sites: Rows,
    pub(super) types: Rows,
    /// What is in `TARGETS`.
    pub(super) keys: HashMap<u32, u32>,
    /// Whether the tracepoints are attached.
    pub(super) follows: bool,
    /// Whether samples are taken.
    pub(super) samples: bool,
    /// Whether no further target may come.
    pub(super) is_closed: bool,
}

impl std::fmt::Debug for Load {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Load")
            .field("purpose", &self.purpose)
            .finish_non_exhaustive()
    }
}

impl Load {
    /// Loads programs and maps. Nothing runs yet.
    ///
    /// # Errors
    ///
    /// [`AttachError`].
    pub(super) fn new(settings: &Settings, is_shared: bool) -> Result<Self, AttachError> {
        let offsets = TaskOffsets::of_this_kernel()?;
        let sizes = Sizes::of(settings, is_shared);
        let ebpf = load(settings, &offsets, &sizes)?;
        let instructions = instructions(&ebpf)?;
        let (method, programs) = choose_method(&instructions, settings.method)?;
        Ok(Self {
            purpose: Purpose::of(settings),
            has_thread_pointer: offsets.fsbase != 0,
            method,
            instructions,
            most_places: sizes.places,
            tables: Mutex::new(Tables {
                post: None,
                ebpf,
                programs,
                targets: Rows::new(sizes.targets),
                sites: Rows::new(sizes.sites),
                types: Rows::new(sizes.types),
                keys: HashMap::new(),
                follows: false,
                samples: false,
                is_closed: !is_shared,
            }),
            canary: Mutex::default(),
            registers: OnceLock::new(),
        })
    }

    pub(super) fn canary(&self) -> MutexGuard<'_, CanaryPlace> {
        self.canary.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The program for a kind of probe, loaded on first use.
    ///
    /// # Errors
    ///
    /// [`AttachError::Verifier`].
    pub(super) fn program(&self, role: Role) -> Result<Arc<OwnedFd>, AttachError> {
        let programs = &mut self.tables().programs;
        if let Some(program) = programs.get(&role) {
            return Ok(Arc::clone(program));
        }
        let program = Arc::new(load_program(&self.instructions, role, self.method)?);
        programs.insert(role, Arc::clone(&program));
        Ok(program)
    }

    /// The program that reads threads' registers, loaded on first use.
    ///
    /// # Errors
    ///
    /// [`AttachError`].
    pub(super) fn registers(&self) -> Result<&OwnedFd, AttachError> {
        if let Some(program) = self.registers.get() {
            return Ok(program);
        }
        let purpose = sys::Purpose::Iterator(btf::task_iterator()?);
        let program = sys::load(REGISTERS, &self.instructions[REGISTERS], purpose)?;
        Ok(self.registers.get_or_init(|| program))
    }
}

impl Tables {
    /// A table to read.
    ///
    /// # Errors
    ///
    /// [`AttachError::Map`].
    pub(super) fn map<'a, T>(&'a self, name: &'static str) -> Result<T, AttachError>
    where
        T: TryFrom<&'a Map, Error = MapError>,
    {
        let map = self.ebpf.map(name).ok_or_else(|| no_map(name))?;
        T::try_from(map).map_err(map_error(name))
    }

    /// All of a hash table.
    ///
    /// # Errors
    ///
    /// [`AttachError::Map`].
    pub(super) fn elements<K, V>(&self, name: &'static str) -> Result<Vec<(K, V)>, AttachError>
    where
        K: Pod + Default,
        V: Pod + Default,
    {
        let fd = self.ebpf.map(name).and_then(map_fd);
        let found = batch::elements(fd.ok_or_else(|| no_map(name))?);
        found.map_err(|error| map_error(name)(MapError::IoError(error)))
    }

    /// A table to write.
    ///
    /// # Errors
    ///
    /// [`AttachError::Map`].
    pub(super) fn map_mut<'a, T>(&'a mut self, name: &'static str) -> Result<T, AttachError>
    where
        T: TryFrom<&'a mut Map, Error = MapError>,
    {
        let map = self.ebpf.map_mut(name).ok_or_else(|| no_map(name))?;
        T::try_from(map).map_err(map_error(name))
    }

    /// A ring buffer. It can be taken once.
    ///
    /// # Errors
    ///
    /// [`AttachError::Object`] the second time.
    pub(super) fn take_ring(
        &mut self,
        name: &'static str,
    ) -> Result<RingBuf<MapData>, AttachError> {
        let map = self.ebpf.take_map(name).ok_or_else(|| no_map(name))?;
        RingBuf::try_from(map).map_err(map_error(name))
    }

    /// A program of aya's.
    ///
    /// # Errors
    ///
    /// [`AttachError::Object`].
    pub(super) fn program_mut(
        &mut self,
        name: &'static str,
    ) -> Result<&mut aya::programs::Program, AttachError> {
        self.ebpf
            .program_mut(name)
            .ok_or_else(|| AttachError::Object(format!("no program {name}")))
    }
}

fn no_map(name: &str) -> AttachError {
    AttachError::Object(format!("no map {name}"))
}

pub(super) fn map_error(map: &'static str) -> impl Fn(MapError) -> AttachError {
    move |source| AttachError::Map { map, source }
}

fn load(settings: &Settings, offsets: &TaskOffsets, sizes: &Sizes) -> Result<Ebpf, AttachError> {
    let (device, inode) = pid_namespace();
    let (light, lag) = (u32::from(settings.light), u32::from(settings.lag));
    let roots_only = u32::from(settings.roots_only);
    let stack_ring_bytes = sizes.stack_ring_bytes();
    let level: u8 = if settings.log {
        aya_log::Level::Debug as u8
    } else {
        0
    };
    let mut loader = EbpfLoader::new();
    // The object has no types of its own that the kernel's would have to fit.
    loader
        .btf(None)
        .override_global("LIGHT", &light, true)
        .override_global("LAG", &lag, true)
        .override_global("ROOTS_ONLY", &roots_only, true)
        .override_global("STACK_RING_BYTES", &stack_ring_bytes, true)
        .override_global("SLOW", &settings.slow_ns, true)
        .override_global("PID_NS_DEV", &device, true)
        .override_global("PID_NS_INO", &inode, true)
        .override_global("TASK_PID", &offsets.pid, true)
        .override_global("TASK_TGID", &offsets.tgid, true)
        .override_global("TASK_STATE", &offsets.state, true)
        .override_global("TASK_CPU_TIME", &offsets.cpu_time, true)
        .override_global("TASK_PICKED", &offsets.picked, true)
        .override_global("TASK_FSBASE", &offsets.fsbase, true)
        .override_global("TASK_FLAGS", &offsets.flags, true)
        .override_global("TASK_JOBCTL", &offsets.jobctl, true)
        .override_global("TASK_MEMSTALL", &offsets.memstall, true)
        .override_global("MEMSTALL_MASK", &offsets.memstall_mask, true)
        .override_global("TASK_OVER_HIGH", &offsets.over_high, true)
        .override_global("TASK_IN_OOM", &offsets.in_oom, true)
        .override_global("FILE_PATH", &offsets.file_path[..], true)
        .override_global(aya_log::LEVEL, &level, false);
    sizes.apply(&mut loader, settings);
    Ok(loader.load(OBJECT)?)
}

/// Tries the better way of placing probes, unless told which. A kernel without `uprobe_multi` links
/// may still load programs for them: what a program is to be attached to was not looked at for this
/// type before Linux 6.6.
fn choose_method(
    instructions: &HashMap<&'static str, Vec<bpf_insn>>,
    wanted: Option<Method>,
) -> Result<(Method, HashMap<Role, Arc<OwnedFd>>), AttachError> {
    // Programs with a tail call bind its table to the first purpose that they are loaded for; this
    // one has none.
    const TRIED: Role = Role::BaselineEnter;
    let method = wanted.unwrap_or_else(|| match load_program(instructions, TRIED, Method::Multi) {
        Ok(program) if uprobe::knows_multi(&program) => Method::Multi,
        _ => Method::PerfEvent,
    });
    let program = load_program(instructions, Role::PollEnter, method)?;
    Ok((
        method,
        HashMap::from([(Role::PollEnter, Arc::new(program))]),
    ))
}

fn load_program(
    instructions: &HashMap<&'static str, Vec<bpf_insn>>,
    role: Role,
    method: Method,
) -> Result<OwnedFd, AttachError> {
    let name = role.program();
    let instructions = instructions
        .get(name)
        .ok_or_else(|| AttachError::Object(format!("no program {name}")))?;
    sys::load(name, instructions, method.purpose())
}

/// The probes' programs, with the maps that aya has made written into them. aya 0.14 can load
/// programs for perf events only, not for `uprobe_multi` links.
fn instructions(ebpf: &Ebpf) -> Result<HashMap<&'static str, Vec<bpf_insn>>, AttachError> {
    let damaged = |error: &dyn std::fmt::Display| AttachError::Object(error.to_string());
    let mut object = Object::parse(OBJECT).map_err(|e| damaged(&e))?;
    let text: HashSet<usize> = object
        .functions
        .keys()
        .map(|(section, _)| *section)
        .collect();
    let maps = object.maps.clone();
    let fds = maps
        .iter()
        .filter_map(|(name, map)| Some((name.as_str(), map_fd(ebpf.map(name)?)?, map)));
    object.relocate_maps(fds, &text).map_err(|e| damaged(&e))?;
    object.relocate_calls(&text).map_err(|e| damaged(&e))?;
    let program = |name: &'static str| {
        let key = object.programs.get(name)?.function_key();
        Some((name, object.functions.get(&key)?.instructions.clone()))
    };
    let probes = Role::ALL.into_iter().map(Role::program);
    Ok(probes.chain([REGISTERS]).filter_map(program).collect())
}

fn map_fd(map: &Map) -> Option<RawFd> {
    let (Map::Array(data)
    | Map::PerCpuArray(data)
    | Map::HashMap(data)
    | Map::LruHashMap(data)
    | Map::ProgramArray(data)
    | Map::RingBuf(data)) = map
    else {
        return None;
    };
    Some(data.fd().as_fd().as_raw_fd())
}

/// Device and inode of loopprobe's pid namespace, or zeros if that is the kernel's first one, whose
/// ids the kernel side sees.
fn pid_namespace() -> (u64, u64) {
    use std::os::unix::fs::MetadataExt as _;
    const INITIAL: u64 = 0xEFFF_FFFC; // PROC_PID_INIT_INO in `include/linux/proc_ns.h`
    match std::fs::metadata("/proc/self/ns/pid") {
        Ok(ns) if ns.ino() != INITIAL => (ns.dev(), ns.ino()),
        _ => (0, 0),
    }
}
