//! The loaded kernel side, as the session of one process has it.

mod batch;
mod heir;
mod load;
mod loads;
mod rows;
mod seat;
mod sizes;
mod tables;
mod tracepoints;

use std::{os::fd::OwnedFd, sync::Arc};

use loopprobe_common::{
    config::{Config, Site},
    records::ThreadRegisters,
};

pub use self::loads::Loads;
use self::{load::Load, seat::Seat};
use super::{
    AttachError, Links, Method, Plan, PlannedImage, Probe, Role,
    records::{Drain, Post, Rings},
    registers, uprobe,
};

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
    /// Whether threads are watched instead of probed.
    pub watch: bool,
    /// With that: whether only threads that poll no tasks are watched, for root futures.
    pub roots_only: bool,
    /// How many samples a second there will be.
    pub sample_hz: u32,
    /// Whether the programs log.
    pub log: bool,
    /// How probes are placed; `None` to find out.
    pub method: Option<Method>,
}

impl Settings {
    /// For probes of polls with both ends, and nothing else.
    pub fn of_probes(pid: u32, capacity: Capacity, config: Config) -> Self {
        Self {
            pid,
            capacity,
            config,
            light: false,
            lag: false,
            slow_ns: 0,
            watch: false,
            roots_only: false,
            sample_hz: 0,
            log: false,
            method: None,
        }
    }
}

/// The programs in the kernel, their tables, and the probes of one process that run them. Dropping
/// it takes away all that no other process needs.
pub struct Kernel {
    // Dropped first: without probes, no program runs into a map that is being torn down.
    links: Links,
    /// Of loopprobe's own function.
    canary: Option<Arc<Links>>,
    /// Which process the probes are limited to; 0 for none.
    scope: u32,
    seat: Seat,
}

impl std::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kernel")
            .field("scope", &self.scope)
            .field("target", &self.seat.target)
            .finish_non_exhaustive()
    }
}

impl Kernel {
    /// Loads programs and maps for this process alone. Nothing runs yet.
    ///
    /// # Errors
    ///
    /// [`AttachError`]; [`AttachError::is_permission`] tells missing privileges apart.
    pub fn load(settings: &Settings) -> Result<Self, AttachError> {
        let load = Arc::new(Load::new(settings, false)?);
        Ok(Self::new(Seat::first(&load, settings)?, settings))
    }

    fn new(seat: Seat, settings: &Settings) -> Self {
        Self {
            links: Links::default(),
            canary: None,
            scope: settings.pid,
            seat,
        }
    }

    fn own_load(&self) -> &Load {
        &self.seat.load
    }

    /// How probes are placed.
    pub fn method(&self) -> Method {
        self.own_load().method
    }

    /// Whether the tables have room for a plan.
    pub fn has_room(&self, plan: &Plan) -> bool {
        self.seat.has_room(plan.sites.len(), plan.types.len())
    }

    /// Whether the programs tell how long tasks are scheduled before they are polled.
    pub fn has_lag(&self) -> bool {
        self.own_load().purpose.has_delays()
    }

    /// Places probes for every process from now on; the programs tell the target apart. They could
    /// not if another one had probes at the same place.
    pub fn probe_all_processes(&mut self) {
        self.scope = 0;
        self.own_load().tables().is_closed = true;
    }

    /// Loads the programs for the probes of a file, so that placing them takes no time for that.
    ///
    /// # Errors
    ///
    /// [`AttachError::Verifier`].
    pub fn load_programs(&mut self, image: &PlannedImage) -> Result<(), AttachError> {
        self.load_roles(image.probes.keys().copied())
    }

    /// Loads the programs for probes of these roles, so far as they are wanted.
    ///
    /// # Errors
    ///
    /// [`AttachError::Verifier`].
    pub(crate) fn load_roles(
        &mut self,
        roles: impl IntoIterator<Item = Role>,
    ) -> Result<(), AttachError> {
        for role in roles.into_iter().filter(|role| self.is_wanted(*role)) {
            self.own_load().program(role)?;
        }
        Ok(())
    }

    fn is_wanted(&self, role: Role) -> bool {
        let purpose = &self.own_load().purpose;
        match role {
            Role::PollExit => !purpose.is_light(),
            Role::ScheduleEnter => purpose.has_delays(),
            _ => true,
        }
    }

    fn roles(&self, image: &PlannedImage) -> Vec<Role> {
        let is_there = |role: &Role| self.is_wanted(*role) && image.probes.contains_key(role);
        Role::ALL.into_iter().filter(is_there).collect()
    }

    /// Places the probes of a file.
    ///
    /// # Errors
    ///
    /// [`AttachError::Probe`] or [`AttachError::Verifier`].
    pub fn attach(&mut self, image: &PlannedImage) -> Result<(), AttachError> {
        let numbered = |role, probe: &Probe| self.numbered(role, probe);
        let links = self.place(image, self.scope, &numbered)?;
        self.links.append(links);
        Ok(())
    }

    /// A probe with the number that its site has in the load's table.
    fn numbered(&self, role: Role, probe: &Probe) -> Probe {
        let is_site = matches!(role, Role::PollEnter | Role::PollExit | Role::BlockingEnter);
        let row = self
            .seat
            .sites
            .get(probe.cookie as usize)
            .filter(|_| is_site);
        Probe {
            cookie: row.map_or(probe.cookie, |row| u64::from(*row)),
            ..*probe
        }
    }

    /// Probes loopprobe's own function, unless that is done for another process. `planned` gives
    /// its site and its probes, by the site's number and its task type's.
    pub(super) fn share_canary(
        &mut self,
        planned: impl FnOnce(u32, u32) -> Result<(Site, PlannedImage), AttachError>,
    ) -> Result<(), AttachError> {
        let load = Arc::clone(&self.seat.load);
        let mut place = load.canary();
        self.canary = place.links.upgrade();
        if self.canary.is_some() {
            return Ok(());
        }
        let image = {
            let mut tables = load.tables();
            let full = || AttachError::Object("a table is too small".to_owned());
            let rows = match place.rows {
                Some(rows) => rows,
                None => (
                    tables.sites.take().ok_or_else(full)?,
                    tables.types.take().ok_or_else(full)?,
                ),
            };
            place.rows = Some(rows);
            let (site, image) = planned(rows.0, rows.1)?;
            tables.set_site(rows.0, &site)?;
            image
        };
        let links = Arc::new(self.place_canary(&image)?);
        place.links = Arc::downgrade(&links);
        self.canary = Some(links);
        Ok(())
    }

    /// Places the probes of loopprobe's own function, whose site has this number in the load's
    /// table.
    fn place_canary(&self, image: &PlannedImage) -> Result<Links, AttachError> {
        // Where probes limited to a process do not run on all of its threads, neither do these.
        let scope = if self.scope == 0 {
            0
        } else {
            std::process::id()
        };
        self.place(image, scope, &|_, probe| *probe)
    }

    fn place(
        &self,
        image: &PlannedImage,
        scope: u32,
        numbered: &dyn Fn(Role, &Probe) -> Probe,
    ) -> Result<Links, AttachError> {
        let load = self.own_load();
        // All are loaded first, which takes the kernel longer than placing them, so that they begin
        // together.
        let roles = self.roles(image);
        let programs: Result<Vec<(Role, Arc<OwnedFd>)>, AttachError> = roles
            .into_iter()
            .map(|role| Ok((role, load.program(role)?)))
            .collect();
        let mut placed = Links::default();
        for (role, program) in programs? {
            let probes = image.probes[&role].iter();
            let probes: Vec<Probe> = probes.map(|probe| numbered(role, probe)).collect();
            let file = &image.file;
            placed.append(uprobe::attach(
                load.method,
                &program,
                role,
                file,
                &probes,
                scope,
            )?);
        }
        Ok(placed)
    }

    /// Whether the programs can read where a thread keeps its variables.
    pub fn has_thread_pointer(&self) -> bool {
        self.own_load().has_thread_pointer
    }

    /// The registers of the process's threads; right only for those that are off their CPUs.
    ///
    /// # Errors
    ///
    /// [`AttachError`].
    pub fn thread_registers(&self, pid: u32) -> Result<Vec<ThreadRegisters>, AttachError> {
        let program = self.own_load().registers()?;
        registers::read(program, pid).map_err(AttachError::Registers)
    }

    /// Takes all uprobes of the process away. They are gone when it returns.
    pub fn detach(&mut self) {
        let (links, canary) = (&mut self.links, self.canary.take());
        std::thread::scope(|scope| {
            scope.spawn(move || drop(canary));
            *links = Links::default();
        });
    }

    /// The records of the process from now on.
    ///
    /// # Errors
    ///
    /// [`AttachError::Object`] if the ring buffers have been taken; [`AttachError::Thread`].
    pub(crate) fn records(&self) -> Result<Drain, AttachError> {
        let mut tables = self.own_load().tables();
        let post = match &tables.post {
            Some(post) => Arc::clone(post),
            None => {
                let rings = Rings {
                    events: tables.take_ring("EVENTS")?,
                    stacks: tables.take_ring("STACKS")?,
                };
                let post = Arc::new(Post::start(rings).map_err(AttachError::Thread)?);
                Arc::clone(tables.post.insert(post))
            }
        };
        post.drain(self.seat.target).map_err(AttachError::Thread)
    }

    /// The programs' own messages, for the `log` crate. They can be taken once.
    ///
    /// # Errors
    ///
    /// [`AttachError::Object`] the second time.
    pub fn messages(&mut self) -> Result<Messages, AttachError> {
        let ebpf = &mut self.own_load().tables().ebpf;
        aya_log::EbpfLogger::init(ebpf).map_err(|e| AttachError::Object(e.to_string()))
    }
}
