//! The loaded kernel side.

use std::{
    collections::{HashMap, HashSet},
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd},
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap as BpfHashMap, Map, MapData, MapError, PerCpuArray, RingBuf},
    programs::{
        PerfEvent, RawTracePoint,
        perf_event::{PerfEventConfig, PerfEventScope, SamplePolicy, SoftwareEvent},
    },
    util::online_cpus,
};
use aya_obj::{Object, generated::bpf_insn};
use loopprobe_common::{
    config::{Config, LOOP_TEXT_RANGES, Range, Site, TaskLayout},
    counters::Counter,
    histogram::Stats,
    records::{StackSlot, ThreadRegisters},
    thread::Thread,
};

use super::{
    AttachError, Links, Method, Plan, PlanSize, PlannedImage, Role,
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
    /// Room for a plan and for what comes later: libraries, or, if the process has yet to execute its program, another program
    /// that this one executes in turn (a shell, `env`).
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
    /// Whether the programs log.
    pub log: bool,
    /// Whether probes are placed for every process and the programs tell the target apart.
    pub all_processes: bool,
    /// How probes are placed; `None` to find out.
    pub method: Option<Method>,
}

/// The programs in the kernel, their tables, and the probes that run them. Dropping it takes everything away.
pub struct Kernel {
    // Dropped first: without probes, no program runs into a map that is being torn down.
    links: Links,
    programs: HashMap<Role, OwnedFd>,
    method: Method,
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
        let level: u8 = if settings.log {
            aya_log::Level::Debug as u8
        } else {
            0
        };
        let mut ebpf = EbpfLoader::new()
            .override_global("TARGET", &settings.pid, true)
            .override_global("PID_NS_DEV", &device, true)
            .override_global("PID_NS_INO", &inode, true)
            .override_global("TASK_PID", &offsets.pid, true)
            .override_global("TASK_TGID", &offsets.tgid, true)
            .override_global("TASK_STATE", &offsets.state, true)
            .override_global("TASK_CPU_TIME", &offsets.cpu_time, true)
            .override_global(aya_log::LEVEL, &level, false)
            .map_max_entries("SITES", settings.capacity.sites.max(1))
            .map_max_entries("VTABLES", settings.capacity.types.max(1))
            .map_max_entries("STATS", settings.capacity.types.max(1))
            .map_max_entries("WORKER_TYPES", settings.capacity.types.max(1))
            .load(OBJECT)?;
        set_config(&mut ebpf, &settings.config)?;
        let instructions = instructions(&ebpf)?;
        let mut kernel = Self {
            links: Links::default(),
            programs: HashMap::new(),
            method: settings.method.unwrap_or(Method::Multi),
            scope: if settings.all_processes {
                0
            } else {
                settings.pid
            },
            capacity: settings.capacity,
            ebpf,
            instructions,
        };
        kernel.choose_method(settings.method)?;
        Ok(kernel)
    }

    /// Tries the better way of placing probes, unless told which. A kernel without `uprobe_multi` links may still load programs
    /// for them: what a program is to be attached to was not looked at for this type before Linux 6.6.
    fn choose_method(&mut self, method: Option<Method>) -> Result<(), AttachError> {
        const ROLE: Role = Role::PollEnter;
        let loaded = self.load_program(ROLE);
        if method.is_some() || (loaded.is_ok() && uprobe::knows_multi(&self.programs[&ROLE])) {
            return loaded;
        }
        self.programs.clear();
        self.method = Method::PerfEvent;
        self.load_program(ROLE)
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

    /// Writes what the plan has got since it had the size `from`.
    ///
    /// # Errors
    ///
    /// [`AttachError::Map`].
    pub fn write_tables(&mut self, plan: &Plan, from: PlanSize) -> Result<(), AttachError> {
        let mut sites: Array<_, Site> = self.map_mut("SITES")?;
        for (index, site) in plan.sites.iter().enumerate().skip(from.sites) {
            sites
                .set(index as u32, site, 0)
                .map_err(map_error("SITES"))?;
        }
        let mut vtables: BpfHashMap<_, u64, TaskLayout> = self.map_mut("VTABLES")?;
        for (address, layout) in plan.shared.iter().skip(from.shared) {
            vtables
                .insert(address, layout, 0)
                .map_err(map_error("VTABLES"))?;
        }
        let mut text: Array<_, Range> = self.map_mut("LOOP_TEXT")?;
        for (index, range) in plan.text.iter().enumerate().take(LOOP_TEXT_RANGES as usize) {
            text.set(index as u32, range, 0)
                .map_err(map_error("LOOP_TEXT"))?;
        }
        Ok(())
    }

    /// Places the probes of a file.
    ///
    /// # Errors
    ///
    /// [`AttachError::Probe`] or [`AttachError::Verifier`].
    pub fn attach(&mut self, image: &PlannedImage) -> Result<(), AttachError> {
        for role in Role::ALL {
            let Some(probes) = image.probes.get(&role) else {
                continue;
            };
            self.load_program(role)?;
            let program = &self.programs[&role];
            let path = image.file.path();
            let links = uprobe::attach(self.method, program, role, &path, probes, self.scope)?;
            self.links.append(links);
        }
        Ok(())
    }

    /// Starts following threads off and on their CPUs.
    ///
    /// # Errors
    ///
    /// [`AttachError::Program`].
    pub fn attach_tracepoints(&mut self) -> Result<(), AttachError> {
        for name in [
            "sched_process_exit",
            "sched_process_exec",
            "sched_waking",
            "sched_wakeup_new",
            "sched_switch",
        ] {
            let error = |source| AttachError::Program {
                program: name,
                source,
            };
            let program: &mut RawTracePoint = self.program_mut(name)?.try_into().map_err(error)?;
            program.load().map_err(error)?;
            program.attach(name).map_err(error)?;
        }
        Ok(())
    }

    /// Starts sampling on every CPU.
    ///
    /// # Errors
    ///
    /// [`AttachError::Program`].
    pub fn attach_sampler(&mut self, hz: u32) -> Result<(), AttachError> {
        const NAME: &str = "sample";
        let error = |source| AttachError::Program {
            program: NAME,
            source,
        };
        let program: &mut PerfEvent = self.program_mut(NAME)?.try_into().map_err(error)?;
        program.load().map_err(error)?;
        let cpus = online_cpus().map_err(|(what, source)| {
            AttachError::Object(format!("cannot list the CPUs: {what}: {source}"))
        })?;
        for cpu in cpus {
            program
                .attach(
                    PerfEventConfig::Software(SoftwareEvent::CpuClock),
                    PerfEventScope::AllProcessesOneCpu { cpu },
                    SamplePolicy::Frequency(u64::from(hz)),
                    false,
                )
                .map_err(error)?;
        }
        Ok(())
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

    /// Takes all uprobes away.
    pub fn detach(&mut self) {
        self.links = Links::default();
    }

    /// Changes what may change.
    ///
    /// # Errors
    ///
    /// [`AttachError::Map`].
    pub fn set_config(&mut self, config: &Config) -> Result<(), AttachError> {
        set_config(&mut self.ebpf, config)
    }

    /// The ring buffer of records. It can be taken once.
    ///
    /// # Errors
    ///
    /// [`AttachError::Object`] the second time.
    pub fn take_events(&mut self) -> Result<RingBuf<MapData>, AttachError> {
        let map = self
            .ebpf
            .take_map("EVENTS")
            .ok_or_else(|| AttachError::Object("no map EVENTS".into()))?;
        RingBuf::try_from(map).map_err(map_error("EVENTS"))
    }

    /// The programs' own messages, for the `log` crate. They can be taken once.
    ///
    /// # Errors
    ///
    /// [`AttachError::Object`] the second time.
    pub fn messages(&mut self) -> Result<Messages, AttachError> {
        aya_log::EbpfLogger::init(&mut self.ebpf).map_err(|e| AttachError::Object(e.to_string()))
    }

    /// The polls of one task type, summed over the CPUs.
    ///
    /// # Errors
    ///
    /// [`AttachError::Map`].
    pub fn stats(&self, index: u32) -> Result<Stats, AttachError> {
        let map: PerCpuArray<_, Stats> = self.map("STATS")?;
        let values = map.get(&index, 0).map_err(map_error("STATS"))?;
        let mut sum = Stats::default();
        for cpu in values.iter() {
            sum.polls += cpu.polls;
            sum.total_ns += cpu.total_ns;
            sum.max_ns = sum.max_ns.max(cpu.max_ns);
            sum.long += cpu.long;
            sum.long_ns += cpu.long_ns;
            for (to, from) in sum.buckets.iter_mut().zip(&cpu.buckets) {
                *to += from;
            }
        }
        Ok(sum)
    }

    /// A counter, summed over the CPUs.
    ///
    /// # Errors
    ///
    /// [`AttachError::Map`].
    pub fn counter(&self, counter: Counter) -> Result<u64, AttachError> {
        let map: PerCpuArray<_, u64> = self.map("COUNTERS")?;
        let values = map
            .get(&(counter as u32), 0)
            .map_err(map_error("COUNTERS"))?;
        Ok(values.iter().sum())
    }

    /// The threads that poll tasks, by the kernel's thread id. A thread may change while it is read.
    ///
    /// # Errors
    ///
    /// [`AttachError::Map`].
    pub fn threads(&self) -> Result<Vec<(u32, Thread)>, AttachError> {
        let owners: BpfHashMap<_, u32, u32> = self.map("OWNERS")?;
        let homes: Array<_, Thread> = self.map("HOMES")?;
        let crowded: BpfHashMap<_, u32, Thread> = self.map("THREADS")?;
        // A thread that ends meanwhile is simply no longer there.
        let at_home = owners.iter().filter_map(|owner| {
            let (place, tid) = owner.ok()?;
            let thread = homes.get(&place, 0).ok()?;
            (thread.kernel_tid == tid).then_some((tid, thread))
        });
        Ok(at_home
            .chain(crowded.iter().filter_map(Result::ok))
            .collect())
    }

    /// What is kept of a thread that is off its CPU.
    ///
    /// # Errors
    ///
    /// [`AttachError::Map`].
    pub fn slot(&self, tid: u32) -> Result<Box<StackSlot>, AttachError> {
        let map: Array<_, StackSlot> = self.map("SLOTS")?;
        let index = tid % loopprobe_common::records::STACK_SLOTS;
        map.get(&index, 0).map(Box::new).map_err(map_error("SLOTS"))
    }

    fn program_mut(
        &mut self,
        name: &'static str,
    ) -> Result<&mut aya::programs::Program, AttachError> {
        self.ebpf
            .program_mut(name)
            .ok_or_else(|| AttachError::Object(format!("no program {name}")))
    }

    fn map<'a, T>(&'a self, name: &'static str) -> Result<T, AttachError>
    where
        T: TryFrom<&'a Map, Error = MapError>,
    {
        let map = self
            .ebpf
            .map(name)
            .ok_or_else(|| AttachError::Object(format!("no map {name}")))?;
        T::try_from(map).map_err(map_error(name))
    }

    fn map_mut<'a, T>(&'a mut self, name: &'static str) -> Result<T, AttachError>
    where
        T: TryFrom<&'a mut Map, Error = MapError>,
    {
        let map = self
            .ebpf
            .map_mut(name)
            .ok_or_else(|| AttachError::Object(format!("no map {name}")))?;
        T::try_from(map).map_err(map_error(name))
    }
}

fn map_error(map: &'static str) -> impl Fn(MapError) -> AttachError {
    move |source| AttachError::Map { map, source }
}

fn set_config(ebpf: &mut Ebpf, config: &Config) -> Result<(), AttachError> {
    const NAME: &str = "CONFIG";
    let map = ebpf
        .map_mut(NAME)
        .ok_or_else(|| AttachError::Object(format!("no map {NAME}")))?;
    let mut map: Array<_, Config> = map.try_into().map_err(map_error(NAME))?;
    map.set(0, config, 0).map_err(map_error(NAME))
}

/// The probes' programs, with the maps that aya has made written into them. aya 0.14 can load programs for perf events only,
/// not for `uprobe_multi` links.
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
    let data = match map {
        Map::Array(m)
        | Map::PerCpuArray(m)
        | Map::HashMap(m)
        | Map::LruHashMap(m)
        | Map::RingBuf(m) => m,
        _ => return None,
    };
    Some(data.fd().as_fd().as_raw_fd())
}

/// Device and inode of loopprobe's pid namespace, or zeros if that is the kernel's first one, whose ids the kernel side sees.
fn pid_namespace() -> (u64, u64) {
    use std::os::unix::fs::MetadataExt as _;
    const INITIAL: u64 = 0xEFFF_FFFC; // PROC_PID_INIT_INO in `include/linux/proc_ns.h`
    match std::fs::metadata("/proc/self/ns/pid") {
        Ok(ns) if ns.ino() != INITIAL => (ns.dev(), ns.ino()),
        _ => (0, 0),
    }
}
