//! The programs that run when threads are scheduled, and those that look at what runs.

use aya::{
    Btf,
    programs::{
        BtfTracePoint, PerfEvent, Program, ProgramError, RawTracePoint,
        perf_event::{PerfEventConfig, PerfEventScope, SamplePolicy, SoftwareEvent},
    },
    util::online_cpus,
};

use super::{Kernel, load::Tables};
use crate::attach::{AttachError, sys};

/// Programs whose arguments the verifier knows to be tasks, and the tracepoint of each.
type Typed = [(&'static str, &'static str)];

/// They follow threads off and on their CPUs.
const PROBED: &Typed = &[
    ("sched_waking", "sched_waking"),
    ("sched_wakeup_new", "sched_wakeup_new"),
    ("sched_switch", "sched_switch"),
];

/// The same where threads are watched instead of probed.
const WATCHED: &Typed = &[
    ("sched_waking", "sched_waking"),
    ("watch_switch", "sched_switch"),
];

/// Programs, named like their tracepoints, that follow threads and processes to their ends.
const ENDS: &[&str] = &["sched_process_exit", "sched_process_exec"];

impl Kernel {
    /// Loads the programs that follow threads off and on their CPUs, which takes the kernel longest
    /// of all.
    ///
    /// # Errors
    ///
    /// [`AttachError::Program`].
    pub fn load_tracepoints(&mut self) -> Result<(), AttachError> {
        self.seat.load.tables().load_at(PROBED)
    }

    /// Starts following threads off and on their CPUs, once that is loaded.
    ///
    /// # Errors
    ///
    /// [`AttachError::Program`].
    pub fn attach_tracepoints(&mut self) -> Result<(), AttachError> {
        self.seat.load.tables().attach_at(PROBED)
    }

    /// Loads the programs that follow threads which are watched instead of probed.
    ///
    /// # Errors
    ///
    /// [`AttachError::Program`].
    pub fn load_watch(&mut self) -> Result<(), AttachError> {
        self.seat.load.tables().load_at(WATCHED)
    }

    /// Starts watching threads, once that is loaded.
    ///
    /// # Errors
    ///
    /// [`AttachError::Program`].
    pub fn attach_watch(&mut self) -> Result<(), AttachError> {
        self.seat.load.tables().attach_at(WATCHED)
    }

    /// Runs a program that does nothing at each context switch, to compare with.
    ///
    /// # Errors
    ///
    /// [`AttachError::Program`].
    pub fn attach_baseline_switch(&mut self) -> Result<(), AttachError> {
        const NAME: &str = "baseline_switch";
        self.seat
            .load
            .tables()
            .with(NAME, |program: &mut RawTracePoint| {
                program.load()?;
                program.attach("sched_switch").map(drop)
            })
    }

    /// Starts sampling on every CPU.
    ///
    /// # Errors
    ///
    /// [`AttachError::Program`].
    pub fn attach_sampler(&mut self, hz: u32) -> Result<(), AttachError> {
        self.seat.load.tables().attach_sampler_of("sample", hz)
    }

    /// Starts looking at threads on every CPU, so many times a second, where they are watched.
    ///
    /// # Errors
    ///
    /// [`AttachError::Program`].
    pub fn watch_running(&mut self, hz: u32) -> Result<(), AttachError> {
        self.seat
            .load
            .tables()
            .attach_sampler_of("watch_sample", hz)
    }
}

impl Tables {
    fn load_at(&mut self, typed: &Typed) -> Result<(), AttachError> {
        for name in ENDS {
            if !self.is_loaded(name)? {
                self.with(name, |raw: &mut RawTracePoint| {
                    sys::patiently(|| raw.load(), errno)
                })?;
            }
        }
        // Reading them takes tens of milliseconds, and another target of the same load has done so.
        let mut types = None;
        for (name, tracepoint) in typed {
            if !self.is_loaded(name)? {
                self.with(name, |typed: &mut BtfTracePoint| {
                    let types = match &mut types {
                        Some(types) => types,
                        none => none.insert(Btf::from_sys_fs()?),
                    };
                    sys::patiently(|| typed.load(tracepoint, types), errno)
                })?;
            }
        }
        Ok(())
    }

    fn attach_at(&mut self, typed: &Typed) -> Result<(), AttachError> {
        if self.follows {
            return Ok(());
        }
        for name in ENDS {
            self.with(name, |raw: &mut RawTracePoint| raw.attach(name).map(drop))?;
        }
        for (name, _) in typed {
            self.with(name, |typed: &mut BtfTracePoint| typed.attach().map(drop))?;
        }
        self.follows = true;
        Ok(())
    }

    /// Whether another target of the same load has loaded a program.
    fn is_loaded(&mut self, name: &'static str) -> Result<bool, AttachError> {
        Ok(self.program_mut(name)?.fd().is_ok())
    }

    /// Does something with a program of type `P`.
    fn with<'a, P>(
        &'a mut self,
        name: &'static str,
        act: impl FnOnce(P) -> Result<(), ProgramError>,
    ) -> Result<(), AttachError>
    where
        P: TryFrom<&'a mut Program, Error = ProgramError>,
    {
        let program = self.program_mut(name)?;
        program.try_into().and_then(act).map_err(of_program(name))
    }

    fn attach_sampler_of(&mut self, name: &'static str, hz: u32) -> Result<(), AttachError> {
        if self.samples {
            return Ok(());
        }
        let program: &mut PerfEvent = self
            .program_mut(name)?
            .try_into()
            .map_err(of_program(name))?;
        sys::patiently(|| program.load(), errno).map_err(of_program(name))?;
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
                .map_err(of_program(name))?;
        }
        self.samples = true;
        Ok(())
    }
}

/// An error of a program's.
fn of_program(name: &'static str) -> impl Fn(ProgramError) -> AttachError {
    move |source| AttachError::Program {
        program: name,
        source,
    }
}

/// The number of the error with which the kernel did not load a program.
fn errno(error: &ProgramError) -> Option<i32> {
    match error {
        ProgramError::LoadError { io_error, .. } => io_error.raw_os_error(),
        _ => None,
    }
}
