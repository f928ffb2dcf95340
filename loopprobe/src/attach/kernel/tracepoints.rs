//! The programs that run when threads are scheduled, and those that look at what runs.

use std::collections::BTreeSet;

use aya::{
    programs::{
        PerfEvent, ProgramError, RawTracePoint,
        perf_event::{PerfEventConfig, PerfEventScope, SamplePolicy, SoftwareEvent},
    },
    util::online_cpus,
};

use super::{Kernel, load::Tables};
use crate::attach::{AttachError, sys};

/// Programs, and the tracepoint of each.
type Tracepoints = [(&'static str, &'static str)];

/// They follow threads off and on their CPUs.
const PROBED: &Tracepoints = &[
    ("sched_process_exit", "sched_process_exit"),
    ("sched_process_exec", "sched_process_exec"),
    ("sched_waking", "sched_waking"),
    ("sched_waking", "sched_wakeup_new"),
    ("sched_switch", "sched_switch"),
];

/// The same where threads are watched instead of probed.
const WATCHED: &Tracepoints = &[
    ("sched_process_exit", "sched_process_exit"),
    ("sched_process_exec", "sched_process_exec"),
    ("sched_waking", "sched_waking"),
    ("watch_switch", "sched_switch"),
];

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
        let mut tables = self.seat.load.tables();
        tables.load_tracepoint(NAME)?;
        tables.tracepoint(NAME, |program| program.attach("sched_switch"))
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
    fn load_at(&mut self, tracepoints: &Tracepoints) -> Result<(), AttachError> {
        let programs: BTreeSet<_> = tracepoints.iter().map(|(program, _)| *program).collect();
        programs
            .into_iter()
            .try_for_each(|program| self.load_tracepoint(program))
    }

    fn attach_at(&mut self, tracepoints: &Tracepoints) -> Result<(), AttachError> {
        if self.follows {
            return Ok(());
        }
        for (program, tracepoint) in tracepoints {
            self.tracepoint(program, |program| program.attach(tracepoint))?;
        }
        self.follows = true;
        Ok(())
    }

    fn load_tracepoint(&mut self, name: &'static str) -> Result<(), AttachError> {
        self.tracepoint(name, |program| {
            match sys::patiently(|| program.load(), errno) {
                // By another target of the same load.
                Err(ProgramError::AlreadyLoaded) => Ok(()),
                result => result,
            }
        })
    }

    fn tracepoint<T>(
        &mut self,
        name: &'static str,
        act: impl FnOnce(&mut RawTracePoint) -> Result<T, ProgramError>,
    ) -> Result<(), AttachError> {
        let program = self.program_mut(name)?;
        program
            .try_into()
            .and_then(act)
            .map(drop)
            .map_err(|source| AttachError::Program {
                program: name,
                source,
            })
    }

    fn attach_sampler_of(&mut self, name: &'static str, hz: u32) -> Result<(), AttachError> {
        if self.samples {
            return Ok(());
        }
        let error = |source| AttachError::Program {
            program: name,
            source,
        };
        let program: &mut PerfEvent = self.program_mut(name)?.try_into().map_err(error)?;
        sys::patiently(|| program.load(), errno).map_err(error)?;
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
        self.samples = true;
        Ok(())
    }
}

/// The number of the error with which the kernel did not load a program.
fn errno(error: &ProgramError) -> Option<i32> {
    match error {
        ProgramError::LoadError { io_error, .. } => io_error.raw_os_error(),
        _ => None,
    }
}
