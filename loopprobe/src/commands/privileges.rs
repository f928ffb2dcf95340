//! What loopprobe may do: everything that it was started with until the probes are in place, and
//! from then on only what following the target and the libraries that it loads later takes.

use anyhow::Context as _;
use caps::{CapSet, Capability, CapsHashSet};
use nix::sys::prctl;

use super::invoking_user::InvokingUser;
use crate::{
    collect::{ObserveError, Observer, Options, Stop},
    model::{Sink, Summary},
};

/// What a running session needs, if it had it to begin with.
const KEPT: [Capability; 5] = [
    // Load a program for a library that comes later, and place probes.
    Capability::CAP_BPF,
    Capability::CAP_PERFMON,
    // Read `/proc/PID/maps` and the memory of the target.
    Capability::CAP_SYS_PTRACE,
    // Open `/proc/PID/map_files`, which leads to files that were replaced.
    Capability::CAP_CHECKPOINT_RESTORE,
    // List `/proc/PID/fd` and open images of a target that belongs to another user.
    Capability::CAP_DAC_READ_SEARCH,
];

/// Attaches, gives up what is no longer needed, and reports until the end.
///
/// # Errors
///
/// [`ObserveError`], or a sentence if the kernel refuses to take privileges away.
pub(super) fn observe(
    options: &Options,
    sink: &mut dyn Sink,
    stop: &Stop,
) -> anyhow::Result<Summary> {
    let observer = Observer::attach(options)?;
    give_up(&observer)?;
    observer.run(sink, stop).map_err(ObserveError::into)
}

/// Gives up, for good, all that a running session does not need: also CAP_SYS_ADMIN, unless this
/// kernel wants that for probes in libraries that come later. Under sudo the process becomes the
/// invoking user's, and other threads lose every capability with that; otherwise each gives up for
/// itself.
///
/// # Errors
///
/// If the kernel refuses.
pub(super) fn give_up(observer: &Observer) -> anyhow::Result<()> {
    become_invoking_user()?;
    if observer.places_perf_events() || observer.samples_later() {
        keep_only(&[&KEPT[..], &[Capability::CAP_SYS_ADMIN]].concat())
    } else {
        keep_only(&KEPT)
    }
}

/// Gives up, for good and before there are other threads that matter, what neither attaching nor a
/// running session needs. Under sudo the process becomes the invoking user's.
///
/// # Errors
///
/// If the kernel refuses.
pub(super) fn keep_what_attaching_takes() -> anyhow::Result<()> {
    become_invoking_user()?;
    // Placing a probe may take CAP_SYS_ADMIN here: the first attach tells, and processes that come
    // later need it again.
    keep_only(&[&KEPT[..], &[Capability::CAP_SYS_ADMIN]].concat())
}

fn become_invoking_user() -> anyhow::Result<()> {
    if let Some(user) = next_user() {
        prctl::set_keepcaps(true).context("cannot keep capabilities across the change of user")?;
        user.become_user_everywhere()
            .context("cannot become the user who called sudo")?;
    }
    Ok(())
}

/// Gives up what a thread that only passes signals on does not need. They may go to a program that
/// has changed its user.
///
/// # Errors
///
/// If the kernel refuses.
pub(super) fn give_up_but_signals() -> anyhow::Result<()> {
    if next_user().is_some() {
        // The C library changes the user in all threads, and ends the process where one of them is
        // not allowed to.
        return prctl::set_no_new_privs().context("cannot give up privileges");
    }
    keep_only(&[Capability::CAP_KILL])
}

/// Reduces this thread's capabilities to those of `kept` that it has, and keeps it from getting
/// others by executing a program.
///
/// # Errors
///
/// If the kernel refuses.
pub(super) fn keep_only(kept: &[Capability]) -> anyhow::Result<()> {
    reduce(kept).context("cannot give up privileges")
}

fn reduce(kept: &[Capability]) -> anyhow::Result<()> {
    prctl::set_no_new_privs()?;
    let permitted = caps::read(None, CapSet::Permitted)?;
    let kept: CapsHashSet = kept
        .iter()
        .copied()
        .filter(|cap| permitted.contains(cap))
        .collect();
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)? {
        for capability in caps::read(None, CapSet::Bounding)?.difference(&kept) {
            caps::drop(None, CapSet::Bounding, *capability)?;
        }
    }
    caps::clear(None, CapSet::Ambient)?;
    caps::clear(None, CapSet::Inheritable)?;
    caps::set(None, CapSet::Effective, &kept)?;
    caps::set(None, CapSet::Permitted, &kept)?;
    Ok(())
}

/// Whose the process becomes, if it may.
fn next_user() -> Option<InvokingUser> {
    let may = |capability| caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false);
    InvokingUser::from_sudo().filter(|_| may(Capability::CAP_SETUID) && may(Capability::CAP_SETGID))
}
