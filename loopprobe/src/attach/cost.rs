//! What a probed poll costs on this machine, measured on a function of loopprobe's own.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use loopprobe_common::{
    config::{Config, Site, TaskLayout, relative},
    records::PollRecord,
};

use super::{
    AttachError, Capacity, Kernel, Method, Plan, PlanSize, Role, Settings, own_file::OwnFile, pod,
};
use crate::{clock::now_ns, elf::ProcAddr, model::TaskType};

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProbeTiming {
    /// Nanoseconds that the probes together add to a call.
    pub ns_per_poll: f64,
    /// Of these, what such probes cost that do nothing.
    pub empty_ns: f64,
    /// Nanoseconds that a single probe adds to a call.
    pub ns_per_entry: f64,
    /// How many nanoseconds more the probes cost when the thread comes from waiting, and the
    /// kernel's way to them is out of the caches.
    pub cold_ns: f64,
    /// By how much a long poll is measured too long.
    pub dead_time: DeadTime,
    /// Whether probes limited to one process run on all of its threads. Linux 6.6 to 6.9 runs them
    /// on its first one only.
    pub all_threads: bool,
}

/// What was measured, and the probes that it took.
#[derive(Debug)]
pub struct Measurement {
    /// What was measured.
    pub timing: ProbeTiming,
    /// On functions that are not called any more. Taking them away takes the kernel a tenth of a
    /// second a kind, so nobody should wait for this to be dropped.
    pub probes: Kernel,
}

/// The time that passes between the target's own code and the clock readings of the probes around
/// it, when the thread comes from a long poll: the kernel's way to the programs is out of the
/// caches by then, and takes several times as long as between polls that follow each other quickly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeadTime {
    /// From the entry probe's reading to the first of the function's own code, in nanoseconds.
    pub start_ns: u64,
    /// From the last of the function's own code to the return probe's reading, in nanoseconds.
    pub end_ns: u64,
}

impl DeadTime {
    /// A shorter poll has its own: its thread may come from another one just before.
    const SHORTEST_NS: u64 = 100_000;

    /// This for polls of at least `threshold_ns`, or none where they may be short.
    #[must_use]
    pub fn of_polls_over(self, threshold_ns: u64) -> Self {
        if threshold_ns >= Self::SHORTEST_NS {
            self
        } else {
            Self::default()
        }
    }

    /// Both together, in nanoseconds.
    pub fn total_ns(&self) -> u64 {
        self.start_ns + self.end_ns
    }
}

/// Calls a round. At about 1 us each, a round is over before most other programs take the CPU away:
/// it was seen that each of five rounds of 2,000 calls was interrupted, on a machine with ten
/// programs for each CPU.
const CALLS: u32 = 200;
/// The median of so many rounds counts: what makes a probe dearer here, such as neighbours of a
/// virtual machine, makes it so in the target.
const ROUNDS: u32 = 51;
/// Calls after a pause. The median counts.
const COLD_CALLS: usize = 31;
/// How long that is: a service with some thousand requests a second waits as long for the next.
const COLD_PAUSE: Duration = Duration::from_micros(300);
/// Calls that take long. The median counts.
const LONG_CALLS: usize = 7;
/// How long to wait after a call that is only there to end another.
const PAUSE: Duration = Duration::from_millis(1);
/// How long each takes: as long as the shortest poll that is reported by default. After 3 ms less
/// is out of the caches.
const LONG_CALL: Duration = Duration::from_millis(10);

/// What a [`Function`] is called with: a task header as far as the programs read it, and what the
/// call is to do.
#[repr(C)]
struct Call {
    words: [u64; 8],
    sleep: Duration,
    /// When its own code began and ended.
    start_ns: u64,
    end_ns: u64,
}

impl Call {
    fn new(sleep: Duration) -> Self {
        Self {
            words: [7; 8],
            sleep,
            start_ns: 0,
            end_ns: 0,
        }
    }
}

/// Stands for `raw::poll`.
type Function = extern "C" fn(&mut Call) -> u64;

/// One such function a way of probing it: taking probes away would cost the attach a tenth of a
/// second each time, and those that another measurement has left would count.
#[inline(never)]
extern "C" fn probed<const WAY: u64>(call: &mut Call) -> u64 {
    // Calling another function makes the compiler begin this one with a `push`, as it does
    // `raw::poll`.
    black_box(leaf(black_box(call)) + WAY)
}

/// The functions of one measurement.
struct Functions {
    /// With probes that do nothing, at the entry alone.
    empty_entry: Function,
    /// With probes that do nothing, at the entry and the return.
    empty_pair: Function,
    /// With loopprobe's own.
    poll: Function,
}

static EXACT: Functions = Functions {
    empty_entry: probed::<1>,
    empty_pair: probed::<2>,
    poll: probed::<3>,
};
static LIGHT: Functions = Functions {
    empty_entry: probed::<4>,
    empty_pair: probed::<5>,
    poll: probed::<6>,
};

#[inline(never)]
fn leaf(call: &mut Call) -> u64 {
    if !call.sleep.is_zero() {
        call.start_ns = now_ns();
        std::thread::sleep(call.sleep);
        call.end_ns = now_ns();
    }
    black_box(call).words[0]
}

/// The plan for a function of loopprobe's own, whose calls look like those of a task's poll.
fn own_plan(probed_at: u64) -> Plan {
    Plan {
        sites: vec![Site {
            vtable: relative(Call::new(Duration::ZERO).words[2], probed_at),
            task: TaskLayout {
                index: 0,
                id_offset: 0x28,
                scheduler_offset: 0x20,
                flags: 0,
            },
            ..Site::default()
        }],
        types: vec![TaskType::unknown(0)],
        ..Plan::default()
    }
}

/// Places an entry and a return probe on a function of loopprobe's own, or with `light` an entry
/// probe alone, and calls it. `lazy_headers` is as in [`Config`].
///
/// # Errors
///
/// [`AttachError`], if probes do not work here.
pub fn measure(
    method: Option<Method>,
    lazy_headers: bool,
    light: bool,
) -> Result<Measurement, AttachError> {
    let functions = if light { &LIGHT } else { &EXACT };
    let poll = functions.poll;
    let own = OwnFile::open(address(poll))?;
    let (site, probed_at) = own.site(address(poll))?;
    let lazy = Config {
        lazy_headers: u64::from(lazy_headers),
        ..config(u64::MAX)
    };
    let capacity = Capacity { sites: 1, types: 1 };
    let mut kernel = Kernel::load(&Settings {
        light,
        method,
        ..Settings::of_probes(std::process::id(), capacity, lazy)
    })?;
    kernel.write_tables(&own_plan(probed_at.0), PlanSize::default())?;
    let without = usual_round(poll);
    let cold_without = cold_call(poll);
    let mut empty_round = |function, probes: &[Role]| {
        kernel.attach(&own.site(address(function))?.0.with(probes))?;
        Ok::<_, AttachError>((usual_round(function) - without).max(0.0))
    };
    let empty_entry = empty_round(functions.empty_entry, &[Role::BaselineEnter])?;
    let empty = if light {
        empty_entry
    } else {
        empty_round(
            functions.empty_pair,
            &[Role::BaselineExit, Role::BaselineEnter],
        )?
    };
    kernel.attach(&site.with(&[Role::PollExit, Role::PollEnter]))?;
    let with = usual_round(poll);
    let cold_with = cold_call(poll);
    let ns_per_poll = (with - without).max(0.0);
    let timing = ProbeTiming {
        ns_per_poll,
        empty_ns: empty,
        // What the two programs of a pair do is about the same.
        ns_per_entry: empty_entry + (ns_per_poll - empty).max(0.0) / if light { 1.0 } else { 2.0 },
        cold_ns: (cold_with - cold_without - ns_per_poll).max(0.0),
        all_threads: kernel.stats(0)?.polls > 0,
        dead_time: dead_time(&mut kernel, poll, light)?,
    };
    Ok(Measurement {
        timing,
        probes: kernel,
    })
}

fn config(threshold_ns: u64) -> Config {
    Config {
        threshold_ns,
        ..Config::default()
    }
}

/// Nanoseconds a call, on a thread that is not the process's first, as the target's workers are
/// not.
fn usual_round(function: Function) -> f64 {
    std::thread::scope(|s| s.spawn(|| rounds(function)).join().unwrap_or(f64::NAN))
}

fn rounds(function: Function) -> f64 {
    let mut call = Call::new(Duration::ZERO);
    let round = |_| {
        let start = Instant::now();
        for _ in 0..CALLS {
            black_box(black_box(function)(black_box(&mut call)));
        }
        start.elapsed().as_nanos() as u64
    };
    median((0..ROUNDS).map(round).collect()) as f64 / f64::from(CALLS)
}

/// Nanoseconds a call by a thread that has just been waiting.
fn cold_call(function: Function) -> f64 {
    std::thread::scope(|s| s.spawn(|| cold_calls(function)).join().unwrap_or(f64::NAN))
}

fn cold_calls(function: Function) -> f64 {
    let mut call = Call::new(Duration::ZERO);
    let times = (0..COLD_CALLS).map(|_| {
        std::thread::sleep(COLD_PAUSE);
        let start_ns = now_ns();
        black_box(black_box(function)(black_box(&mut call)));
        now_ns() - start_ns
    });
    median(times.collect()) as f64
}

/// Holds what the probes say of long calls against what the calls say themselves. Zeros if no probe
/// says anything.
fn dead_time(kernel: &mut Kernel, poll: Function, light: bool) -> Result<DeadTime, AttachError> {
    kernel.set_config(&config(LONG_CALL.as_nanos() as u64))?;
    let mut events = kernel.take_events()?;
    let (mut starts, mut ends) = (Vec::new(), Vec::new());
    for _ in 0..LONG_CALLS {
        let mut call = Call::new(LONG_CALL);
        poll(&mut call);
        if light {
            // The next call is this one's end. The one after it must not come straight from a
            // probe.
            poll(&mut Call::new(Duration::ZERO));
            std::thread::sleep(PAUSE);
        }
        while let Some(item) = events.next() {
            if let Some(record) = pod::read::<PollRecord>(&item) {
                starts.push(call.start_ns.saturating_sub(record.poll.start_ns));
                ends.push(record.end_ns.saturating_sub(call.end_ns));
            }
        }
    }
    Ok(DeadTime {
        start_ns: median(starts),
        end_ns: median(ends),
    })
}

fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}

fn address(function: Function) -> ProcAddr {
    ProcAddr(function as *const () as u64)
}
