//! The loaded kernel side.

mod tables;
mod tracepoints;

use std::{
    collections::{HashMap, HashSet},
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd},
};

use aya::{Ebpf, EbpfLoader, maps::Map};
use aya_obj::{Object, generated::bpf_insn};
use loopprobe_common::{
    config::Config,
    records::{MAX_BUSY, ThreadRegisters},
    wake::MAX_WOKEN,
};

use self::tables::set_config;
use super::{
    AttachError, Links, Method, Plan, PlannedImage, Role,
    btf::{self, TaskOffsets},
    object::OBJECT,
    registers, sys, uprobe,
};

/// The program that reads threads' registers.
const REGISTERS: &str = "task_registers";

/// Messages of the programs; flushing hands them to the `log` crate.
pub type Messages = aya_log::EbpfLogger<&'static dyn log::Log>;

/// How large the tables are made; they cannot grow.
#[derive(Clone, Copy, Debug)]
pub struct Capacity {
    /// Poll sites.
    pub sites: u32,
    /// Task types.
    pub types: u32,
}

impl Capacity {
    /// Room for a plan and for what comes later: libraries, or, if the process has yet to execute
    /// its program, another program that this one executes in turn (a shell, `env`).
    pub fn for_plan(plan: &Plan, before_exec: bool) -> Self {
        // Programs with a thousand types exist; each costs about 600 bytes a CPU.
        let spare = if before_exec { 4096 } else { 512 };
        Self {
            sites: plan.sites.len() as u32 + spare,
            types: plan.types.len() as u32 + spare,
        }
    }
}

/// What the programs are loaded with.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The process, in loopprobe's pid namespace.
    pub pid: u32,
    /// Sizes of tables.
    pub capacity: Capacity,
    /// What may change later.
    pub config: Config,
    /// Whether polls are timed by their entries alone.
    pub light: bool,
    /// Whether it is wanted how long tasks are scheduled before they are polled.
    pub lag: bool,
    /// A task whose polls have taken this long together is told of; 0 for none.
    pub slow_ns: u64,
    /// Where threads are watched: whether only those that poll no tasks are, for root futures.
    pub roots_only: bool,
    /// Whether the programs log.
    pub log: bool,
    /// How probes are placed; `None` to find out.
    pub method: Option<Method>,
}

/// The programs in the kernel, their tables, and the probes that run them. Dropping it takes
/// everything away.
pub struct Kernel {
    // Dropped first: without probes, no program runs into a map that is being torn down.
    links: Links,
    /// Of loopprobe's own function.
    canary: Links,
    programs: HashMap<Role, OwnedFd>,
    method: Method,
    light: bool,
    lag: bool,
    has_thread_pointer: bool,
    /// Which process the probes are limited to; 0 for none.
    scope: u32,
    capacity: Capacity,
    ebpf: Ebpf,
    instructions: HashMap<&'static str, Vec<bpf_insn>>,
}

impl std::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kernel")
            .field("scope", &self.scope)
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

impl Kernel {
    /// Loads programs and maps. Nothing runs yet.
    ///
    /// # Errors
    ///
    /// [`AttachError`]; [`AttachError::is_permission`] tells missing privileges apart.
    pub fn load(settings: &Settings) -> Result<Self, AttachError> {
        let offsets = TaskOffsets::of_this_kernel()?;
        let (device, inode) = pid_namespace();
        let (light, lag) = (u32::from(settings.light), u32::from(settings.lag));
        let roots_only = u32::from(settings.roots_only);
        let level: u8 = if settings.log {
            aya_log::Level::Debug as u8
        } else {
            0
        };
        let mut loader = EbpfLoader::new();
        loader
            .override_global("TARGET", &settings.pid, true)
            .override_global("LIGHT", &light, true)
            .override_global("LAG", &lag, true)
            .override_global("ROOTS_ONLY", &roots_only, true)
            .override_global("SLOW", &settings.slow_ns, true)
            .override_global("PID_NS_DEV", &device, true)
            .override_global("PID_NS_INO", &inode, true)
            .override_global("TASK_PID", &offsets.pid, true)
            .override_global("TASK_TGID", &offsets.tgid, true)
            .override_global("TASK_STATE", &offsets.state, true)
            .override_global("TASK_CPU_TIME", &offsets.cpu_time, true)
            .override_global("TASK_FSBASE", &offsets.fsbase, true)
            .override_global("TASK_FLAGS", &offsets.flags, true)
            .override_global("TASK_JOBCTL", &offsets.jobctl, true)
            .override_global("TASK_MEMSTALL", &offsets.memstall, true)
            .override_global("MEMSTALL_MASK", &offsets.memstall_mask, true)
            .override_global("TASK_OVER_HIGH", &offsets.over_high, true)
            .override_global("TASK_IN_OOM", &offsets.in_oom, true)
            .override_global("FILE_PATH", &offsets.file_path[..], true)
            .override_global(aya_log::LEVEL, &level, false);
        size_tables(&mut loader, settings);
        let mut ebpf = loader.load(OBJECT)?;
        set_config(&mut ebpf, &settings.config)?;
        let instructions = instructions(&ebpf)?;
        let mut kernel = Self {
            links: Links::default(),
            canary: Links::default(),
            programs: HashMap::new(),
            method: settings.method.unwrap_or(Method::Multi),
            light: settings.light,
            lag: settings.lag,
            has_thread_pointer: offsets.fsbase != 0,
            scope: settings.pid,
            capacity: settings.capacity,
            ebpf,
            instructions,
        };
        kernel.choose_method(settings.method)?;
        Ok(kernel)
    }

    /// Tries the better way of placing probes, unless told which. A kernel without `uprobe_multi`
    /// links may still load programs for them: what a program is to be attached to was not looked
    /// at for this type before Linux 6.6.
    fn choose_method(&mut self, method: Option<Method>) -> Result<(), AttachError> {
        // Programs with a tail call bind its table to the first purpose that they are loaded for;
        // this one has none.
        const TRIED: Role = Role::BaselineEnter;
        if method.is_none() {
            let loaded = self.load_program(TRIED);
            if loaded.is_err() || !uprobe::knows_multi(&self.programs[&TRIED]) {
                self.method = Method::PerfEvent;
            }
            self.programs.clear();
        }
        self.load_program(Role::PollEnter)
    }

    fn load_program(&mut self, role: Role) -> Result<(), AttachError> {
        if self.programs.contains_key(&role) {
            return Ok(());
        }
        let instructions = self
            .instructions
            .get(role.program())
            .ok_or_else(|| AttachError::Object(format!("no program {}", role.program())))?;
        let program = sys::load(role.program(), instructions, self.method.purpose())?;
        self.programs.insert(role, program);
        Ok(())
    }

    /// How probes are placed.
    pub fn method(&self) -> Method {
        self.method
    }

    /// How large the tables are.
    pub fn capacity(&self) -> Capacity {
        self.capacity
    }

    /// Whether the programs tell how long tasks are scheduled before they are polled.
    pub fn has_lag(&self) -> bool {
        self.lag
    }

    /// Places probes for every process from now on; the programs tell the target apart.
    pub fn probe_all_processes(&mut self) {
        self.scope = 0;
    }

    /// Loads the programs for the probes of a file, so that placing them takes no time for that.
    ///
    /// # Errors
    ///
    /// [`AttachError::Verifier`].
    pub fn load_programs(&mut self, image: &PlannedImage) -> Result<(), AttachError> {
        for role in self.roles(image) {
            self.load_program(role)?;
        }
        Ok(())
    }

    fn roles(&self, image: &PlannedImage) -> Vec<Role> {
        let wanted = |role: &Role| {
            let is_wanted = match role {
                Role::PollExit => !self.light,
                Role::ScheduleEnter => self.lag,
                _ => true,
            };
            is_wanted && image.probes.contains_key(role)
        };
        Role::ALL.into_iter().filter(wanted).collect()
    }

    /// Places the probes of a file.
    ///
    /// # Errors
    ///
    /// [`AttachError::Probe`] or [`AttachError::Verifier`].
    pub fn attach(&mut self, image: &PlannedImage) -> Result<(), AttachError> {
        let links = self.place(image, self.scope)?;
        self.links.append(links);
        Ok(())
    }

    /// Places the probes of loopprobe's own function.
    pub(super) fn place_canary(&mut self, image: &PlannedImage) -> Result<(), AttachError> {
        // Where probes limited to a process do not run on all of its threads, neither do these.
        let scope = if self.scope == 0 {
            0
        } else {
            std::process::id()
        };
        self.canary = self.place(image, scope)?;
        Ok(())
    }

    fn place(&mut self, image: &PlannedImage, scope: u32) -> Result<Links, AttachError> {
        // All are loaded first, which takes the kernel longer than placing them, so that they begin
        // together.
        self.load_programs(image)?;
        let mut placed = Links::default();
        for role in self.roles(image) {
            let probes = &image.probes[&role];
            let program = &self.programs[&role];
            let (method, file) = (self.method, &image.file);
            placed.append(uprobe::attach(method, program, role, file, probes, scope)?);
        }
        Ok(placed)
    }

    /// Whether the programs can read where a thread keeps its variables.
    pub fn has_thread_pointer(&self) -> bool {
        self.has_thread_pointer
    }

    /// The registers of the process's threads; right only for those that are off their CPUs.
    ///
    /// # Errors
    ///
    /// [`AttachError`].
    pub fn thread_registers(&self, pid: u32) -> Result<Vec<ThreadRegisters>, AttachError> {
        let function = btf::function_id("bpf_iter_task")?;
        let instructions = &self.instructions[REGISTERS];
        let program = sys::load(REGISTERS, instructions, sys::Purpose::Iterator(function))?;
        registers::read(&program, pid).map_err(AttachError::Registers)
    }

    /// Takes all uprobes away. They are gone when it returns.
    pub fn detach(&mut self) {
        let (links, canary) = (&mut self.links, std::mem::take(&mut self.canary));
        std::thread::scope(|scope| {
            scope.spawn(move || drop(canary));
            *links = Links::default();
        });
    }

    /// The programs' own messages, for the `log` crate. They can be taken once.
    ///
    /// # Errors
    ///
    /// [`AttachError::Object`] the second time.
    pub fn messages(&mut self) -> Result<Messages, AttachError> {
        aya_log::EbpfLogger::init(&mut self.ebpf).map_err(|e| AttachError::Object(e.to_string()))
    }

    fn program_mut(
        &mut self,
        name: &'static str,
    ) -> Result<&mut aya::programs::Program, AttachError> {
        self.ebpf
            .program_mut(name)
            .ok_or_else(|| AttachError::Object(format!("no program {name}")))
    }
}

/// A table that nobody asks for is as small as it can be.
fn size_tables(loader: &mut EbpfLoader<'_>, settings: &Settings) {
    let Capacity { sites, types } = settings.capacity;
    let (woken, delays) = match settings.lag {
        true => (MAX_WOKEN, types + 1),
        false => (1, 1),
    };
    // The last site and the last type are the canary's.
    loader
        .map_max_entries("SITES", sites + 1)
        .map_max_entries("VTABLES", types.max(1))
        .map_max_entries("BUSY", if settings.slow_ns > 0 { MAX_BUSY } else { 1 })
        .map_max_entries("WOKEN", woken)
        .map_max_entries("DELAYS", delays)
        .map_max_entries("STATS", types + 1)
        .map_max_entries("WORKER_TYPES", types + 1);
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
