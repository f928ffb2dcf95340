//! Sums a poll's wall time by cause, and blames the largest sum of the largest kind, and its
//! heaviest call.

use std::collections::BTreeMap;

use super::{
    Moment, PollEvidence, StackEvidence, ThrottleDelta,
    blame::{blamed, blocking_call, describe, innermost_async, says_where_from},
    facts::facts,
    moment::copies,
    rules,
    syscall::Waits,
    time::time,
};
use crate::model::{Blocked, Cause, Diagnosis, Frame, Outcome, Role, Split, StackKind};

/// Names a long poll's cause: what took the largest part of its wall time, or the largest part of
/// what its kind took together.
pub fn diagnose(evidence: &PollEvidence) -> Diagnosis {
    let evidence = &completed(evidence);
    let split = evidence.split.unwrap_or_else(|| from_stacks(evidence));
    let mut parts = blocked_parts(evidence, split.blocked_ns);
    add_on_cpu(&mut parts, evidence, split.on_cpu_ns);
    let left_ns = add_yielded(&mut parts, evidence, split.runnable_ns);
    let waiting = Moment::runnable(is_throttled(evidence, split.runnable_ns));
    add(&mut parts, rules::of(&waiting).cause, left_ns);
    let (cause, ns) = largest(&parts, |_| true).unwrap_or((Cause::Unknown, 0));
    let stacks = stacks_of(evidence, cause);
    let (call, dominant) = heaviest_call(&stacks);
    let moment = dominant.map(|found| moment_of(found, &stacks));
    Diagnosis {
        cause,
        call,
        innermost: dominant.and_then(|found| innermost_async(&found.stack.frames)),
        evidence: facts(evidence, cause, ns, dominant.zip(moment)),
        advice: advice(cause, evidence, split, &parts, moment),
        own_ns: evidence.split.map(|_| own_ns(&parts)),
    }
}

/// What others did not take.
fn own_ns(parts: &Parts) -> u64 {
    let own = parts.iter().filter(|(cause, _)| !cause.is_others());
    own.map(|(_, ns)| ns).sum()
}

/// The largest of some parts, if it is anything: of the kind of which there is most. Writing a file
/// and waiting until it is on the disk go together, and computing less than both is no cause.
fn largest(parts: &Parts, wanted: impl Fn(Cause) -> bool) -> Option<(Cause, u64)> {
    let wanted = |&(&cause, &ns): &(&Cause, &u64)| ns > 0 && wanted(cause);
    let of_kind = |cause: Cause| -> u64 {
        let all = parts.iter().filter(wanted);
        let alike = all.filter(|(other, _)| are_alike(**other, cause));
        alike.map(|(_, ns)| ns).sum()
    };
    let candidates = parts.iter().filter(wanted).map(|(&cause, &ns)| (cause, ns));
    candidates.max_by_key(|&(cause, ns)| (of_kind(cause), ns, cause != Cause::Unknown))
}

/// Whether two causes are of one kind: those of one colour are, but for waits for memory, which may
/// be part of computing.
fn are_alike(one: Cause, other: Cause) -> bool {
    let is_memory = |cause| matches!(cause, Cause::PageFault | Cause::MemoryMap);
    let same_colour = one.rule().colour == other.rule().colour;
    one == other || same_colour && !is_memory(one) && !is_memory(other)
}

/// The time for which the heaviest stack of a cause stands, as all of its stacks show it.
fn moment_of<'a>(heaviest: &'a StackEvidence, stacks: &[&StackEvidence]) -> Moment<'a> {
    let samples = || {
        let on_cpu = |found: &&&StackEvidence| found.stack.kind == StackKind::OnCpu;
        stacks.iter().filter(on_cpu)
    };
    let all_ns: u64 = samples().map(|found| found.stack.ns).sum();
    let copying = samples().filter(|found| copies(found));
    let copied_ns: u64 = copying.map(|found| found.stack.ns).sum();
    Moment {
        copies: copied_ns * 2 > all_ns,
        ..Moment::of(heaviest)
    }
}

/// The advice of a cause's own row, or what fits its heaviest stack better.
fn advice_of(cause: Cause, evidence: &PollEvidence, heaviest: Option<Moment<'_>>) -> &'static str {
    let moment = Moment {
        preempted_by_itself: is_by_itself(evidence),
        ..heaviest.unwrap_or_else(|| Moment::runnable(cause == Cause::Throttled))
    };
    rules::advice(cause, &moment)
}

/// Whether threads of the process itself had the CPU for most of the time that is known.
fn is_by_itself(evidence: &PollEvidence) -> bool {
    let total = |own: bool| -> u64 {
        let takers = evidence.takers.iter();
        let wanted = takers.filter(|taker| taker.process.is_none() == own);
        wanted.map(|taker| taker.had_ns).sum()
    };
    total(true) > total(false)
}

/// What to do about a cause in its situation.
fn advice(
    cause: Cause,
    evidence: &PollEvidence,
    split: Split,
    parts: &Parts,
    heaviest: Option<Moment<'_>>,
) -> String {
    let others = |cause| matches!(cause, Cause::Preempted | Cause::Throttled);
    let advice = advice_of(cause, evidence, heaviest);
    let own_ns = split.on_cpu_ns + split.blocked_ns;
    if !others(cause) || own_ns * OWN_SHARE < own_ns + split.runnable_ns {
        return advice.to_owned();
    }
    // What a poll took of its own is its own, whoever had the CPU for the rest.
    let (own, most_ns) = largest(parts, |cause| !others(cause)).unwrap_or((Cause::Unknown, 0));
    let stacks = stacks_of(evidence, own);
    let (_, heaviest) = heaviest_call(&stacks);
    let heaviest = heaviest.map(|found| moment_of(found, &stacks));
    let own_advice = advice_of(own, evidence, heaviest);
    let mostly = match most_ns {
        0 => String::new(),
        ns => format!(", {} of them {}", time(ns), own.rule().label),
    };
    format!(
        "{} of it were the code's own{mostly}: {own_advice}; for the rest, {advice}",
        time(own_ns)
    )
}

/// From this part of a poll on, its own time is mentioned although another cause took more: a
/// fifth.
const OWN_SHARE: u64 = 5;

/// A descriptor may have been closed before it was looked up; then another stack with the same
/// system call in the same function says what it was, if one does.
fn completed(evidence: &PollEvidence) -> PollEvidence {
    let mut completed = evidence.clone();
    for found in &mut completed.stacks {
        let call = |found: &StackEvidence| found.syscall.map(|call| call.number);
        let is_like = |other: &&StackEvidence| {
            call(other) == call(found)
                && blocking_call(&other.stack.frames) == blocking_call(&found.stack.frames)
        };
        if found.object.is_none() && found.syscall.is_some() {
            let mut known = evidence
                .stacks
                .iter()
                .filter(|other| other.object.is_some());
            let like = known.find(is_like);
            found.object = like.and_then(|other| other.object.clone());
        }
    }
    completed
}

type Parts = BTreeMap<Cause, u64>;

fn add(parts: &mut Parts, cause: Cause, ns: u64) {
    *parts.entry(cause).or_default() += ns;
}

/// Where the wall time is not known, the stacks say what they saw.
fn from_stacks(evidence: &PollEvidence) -> Split {
    let of = |kind| {
        evidence
            .stacks
            .iter()
            .filter(|found| found.stack.kind == kind)
            .map(|found| found.stack.ns)
            .sum()
    };
    Split {
        on_cpu_ns: of(StackKind::OnCpu),
        runnable_ns: of(StackKind::Runnable),
        blocked_ns: of(StackKind::Blocked),
    }
}

/// Blocked time by cause. Stretches too short for a stack of their own are taken to be like the
/// ones that have one, if those are at least a tenth of it: a loop of short reads gives few stacks.
fn blocked_parts(evidence: &PollEvidence, blocked_ns: u64) -> Parts {
    let mut parts = Parts::new();
    for found in blocked(evidence) {
        add(&mut parts, cause_of(found), found.stack.ns);
    }
    let seen: u64 = parts.values().sum();
    let unseen = blocked_ns.saturating_sub(seen);
    let largest = parts
        .iter()
        .max_by_key(|(_, ns)| **ns)
        .map(|(cause, _)| *cause);
    match largest {
        Some(cause) if seen >= blocked_ns / 10 => add(&mut parts, cause, unseen),
        _ => add(&mut parts, Cause::Unknown, unseen),
    }
    parts
}

fn blocked(evidence: &PollEvidence) -> impl Iterator<Item = &StackEvidence> {
    evidence
        .stacks
        .iter()
        .filter(|found| found.stack.kind == StackKind::Blocked)
}

/// Time on the CPU by cause: its samples show whether it was the kernel's, and for what. The rest
/// is the thread's own.
fn add_on_cpu(parts: &mut Parts, evidence: &PollEvidence, on_cpu_ns: u64) {
    let mut own_ns = on_cpu_ns;
    let samples = evidence
        .stacks
        .iter()
        .filter(|found| found.stack.kind == StackKind::OnCpu);
    for found in samples {
        let cause = cause_of(found);
        if cause != Cause::Cpu {
            let ns = found.stack.ns.min(own_ns);
            add(parts, cause, ns);
            own_ns -= ns;
        }
    }
    add(parts, Cause::Cpu, own_ns);
}

/// Time in which the thread was ready because it had given its CPU away itself, by cause: that is
/// no preemption. Gives back what is left of `runnable_ns`.
fn add_yielded(parts: &mut Parts, evidence: &PollEvidence, runnable_ns: u64) -> u64 {
    let mut left_ns = runnable_ns;
    for found in evidence.stacks.iter().filter(|found| is_yielded(found)) {
        let ns = found.stack.ns.min(left_ns);
        add(parts, cause_of(found), ns);
        left_ns -= ns;
    }
    left_ns
}

fn is_yielded(found: &StackEvidence) -> bool {
    let waits = found.syscall.and_then(|call| call.waits());
    found.stack.kind == StackKind::Runnable && waits == Some(Waits::Yield)
}

fn cause_of(found: &StackEvidence) -> Cause {
    rules::of(&Moment::of(found)).cause
}

fn is_throttled(evidence: &PollEvidence, runnable_ns: u64) -> bool {
    // The counter is the sum over the CPUs, so it can exceed this thread's waiting but, where quota
    // was the reason, hardly stay below half of it.
    matches!(
        evidence.throttle,
        Some(ThrottleDelta { periods, throttled_ns }) if periods > 0 && throttled_ns >= runnable_ns / 2
    )
}

/// The stacks that show a cause.
fn stacks_of(evidence: &PollEvidence, cause: Cause) -> Vec<&StackEvidence> {
    evidence
        .stacks
        .iter()
        .filter(|found| match (cause, found.stack.kind) {
            (Cause::Preempted | Cause::Throttled, kind) => kind != StackKind::Blocked,
            (_, StackKind::OnCpu | StackKind::Blocked) => cause_of(found) == cause,
            (_, StackKind::Runnable) => is_yielded(found) && cause_of(found) == cause,
        })
        .collect()
}

/// The blocking call with the most time, and the longest stack that has it.
fn heaviest_call<'a>(stacks: &[&'a StackEvidence]) -> (Option<Blocked>, Option<&'a StackEvidence>) {
    let mut calls: Vec<(Option<Blocked>, u64, &StackEvidence)> = Vec::new();
    for &found in stacks {
        let call = call_of(found);
        let same = calls
            .iter_mut()
            .find(|(known, ..)| key(known.as_ref()) == key(call.as_ref()));
        match same {
            Some((_, ns, longest)) => {
                *ns += found.stack.ns;
                if found.stack.ns > longest.stack.ns {
                    *longest = found;
                }
            }
            None => calls.push((call, found.stack.ns, found)),
        }
    }
    let heaviest = calls
        .into_iter()
        .max_by_key(|(call, ns, _)| (call.is_some(), *ns));
    let Some((call, _, longest)) = heaviest else {
        return (None, None);
    };
    (shared_call(stacks, longest).or(call), Some(longest))
}

/// The call to blame of one stack. Of a walk that broke off, a function of which nothing is known
/// is whatever the thread happened to be in, hand-written assembly for example, whose callers are
/// the ones to look at: it is not to blame.
fn call_of(found: &StackEvidence) -> Option<Blocked> {
    let frames = &found.stack.frames;
    if let Some(frame) = never_yielding(found) {
        return Some(describe(frame));
    }
    let broke_off = matches!(
        found.stack.outcome,
        Outcome::NoUnwindInfo | Outcome::Inconsistent | Outcome::Truncated | Outcome::Unreadable
    );
    let mut outer = &frames[..];
    loop {
        let at = blamed(outer)?;
        let frame = &outer[at];
        let is_unknown = frame.role == Role::Unknown && !says_where_from(frame);
        if !broke_off || !is_unknown {
            return Some(describe(frame));
        }
        outer = &outer[at + 1..];
    }
}

/// The async body whose loop never gives its thread back, if that is why a stack stood. What the
/// loop calls is not to blame.
fn never_yielding(found: &StackEvidence) -> Option<&Frame> {
    let looped = found.ready_loop.as_ref()?;
    let frame = found.stack.frames.get(looped.frame)?;
    (cause_of(found) == Cause::NeverYields && !frame.runtime).then_some(frame)
}

/// Of samples, where the function to blame has no name: the innermost one that nearly all of them
/// have on their stack. Which of the nameless functions inside it is sampled most is chance: those
/// of an allocator, say, whose work it causes.
fn shared_call(stacks: &[&StackEvidence], longest: &StackEvidence) -> Option<Blocked> {
    let is_sample = |found: &&&StackEvidence| found.stack.kind == StackKind::OnCpu;
    let total: u64 = stacks.iter().filter(is_sample).map(|f| f.stack.ns).sum();
    let frames = &longest.stack.frames;
    let blamed = blamed(frames)?;
    let is_nameless = |frame: &Frame| frame.function.is_none() && frame.definition.is_none();
    let is_nameless_sample = is_nameless(&frames[blamed]) && longest.stack.kind == StackKind::OnCpu;
    if !is_nameless_sample || call_of(longest) != Some(describe(&frames[blamed])) {
        return None;
    }
    let share = |frame: &Frame| -> u64 {
        let on_stack = stacks
            .iter()
            .filter(is_sample)
            .filter(|found| found.stack.frames.iter().any(|f| is_same(f, frame)));
        on_stack.map(|found| found.stack.ns).sum()
    };
    let shared = frames[blamed..]
        .iter()
        .take_while(|frame| frame.role != Role::Runtime)
        .filter(|frame| !frame.role.is_plumbing())
        .find(|frame| !is_nameless(frame) || share(frame) * 10 >= total * NEARLY_ALL)?;
    Some(describe(shared))
}

/// Nine tenths.
const NEARLY_ALL: u64 = 9;

/// Whether two frames are in one function.
fn is_same(one: &Frame, other: &Frame) -> bool {
    one.module == other.module
        && one.function == other.function
        && one.function_offset == other.function_offset
}

/// Samples at several lines of one function are one call.
fn key(call: Option<&Blocked>) -> Option<&str> {
    call.map(|call| call.function.as_str())
}
