//! Values that tell of a loop's health beside its polls: busy time, time without parking, time in
//! which nobody turned a driver.

use loopprobe_common::{
    counters::Counter,
    health::{Driver, Longest},
    records::{DriverRecord, Kind, LEAST_LAG_NS},
    target::Own,
    thread::Thread,
};

use crate::{
    arch,
    maps::{DRIVERS, EVENTS, config, count},
    saved,
};

/// The outermost poll of a thread has ended.
#[inline(always)]
pub fn turned(thread: &mut Thread, end_ns: u64) {
    let poll = &thread.polls[0];
    let ns = end_ns.saturating_sub(poll.start_ns);
    let is_watched = config(thread.target).is_some_and(|c| c.watched == poll.header);
    thread.turns += 1;
    thread.busy_ns += ns;
    if is_watched {
        thread.watched_turns += 1;
        thread.watched_ns += ns;
    }
}

/// A worker goes off its CPU to wait, outside any poll.
#[inline(always)]
pub fn park(thread: &mut Thread, now: u64) {
    let awake_ns = core::mem::take(&mut thread.awake_ns);
    if awake_ns != 0 {
        let look = look(thread);
        Longest::note(&mut thread.longest, look, now - awake_ns);
    }
}

/// A driver's `epoll_wait` is called by the current thread.
#[inline(never)]
pub fn enter_driver(thread: &mut Thread, descriptor: u32, now: u64) {
    thread.driver = descriptor.wrapping_add(1);
    let key = driver_key(thread);
    let Some(driver) = DRIVERS.get_ptr_mut(&key) else {
        let driver = Driver {
            left_ns: now,
            tid: thread.tid,
            ..Driver::default()
        };
        let _ = DRIVERS.insert(&key, &driver, 0);
        return;
    };
    // SAFETY: a deleted element's memory stays the map's. One thread at a time turns a driver, as a
    // rule.
    let driver = unsafe { &mut *driver };
    let left_ns = driver.left_ns;
    if left_ns != 0 && left_ns < now {
        let ns = now - left_ns;
        driver.total_ns += ns;
        driver.turns += 1;
        Longest::note(&mut driver.longest, look(thread), ns);
        let threshold_ns = config(thread.target).map_or(u64::MAX, |c| c.threshold_ns);
        if ns >= threshold_ns.max(LEAST_LAG_NS) {
            send(driver, thread, descriptor, now);
        }
    }
    driver.left_ns = now;
    driver.tid = thread.tid;
}

#[inline(always)]
fn send(driver: &Driver, thread: &Thread, descriptor: u32, now: u64) {
    let Some(mut entry) = EVENTS.reserve::<DriverRecord>(0) else {
        count(thread.target, Counter::EventLost);
        return;
    };
    entry.write(DriverRecord {
        kind: Kind::Driver as u16,
        target: thread.target as u16,
        tid: driver.tid,
        left_ns: driver.left_ns,
        end_ns: now,
        descriptor,
        next_tid: thread.tid,
    });
    entry.submit(0);
}

/// The current thread, which has called a driver's `epoll_wait` some time ago, goes off its CPU to
/// wait.
#[inline(never)]
pub fn wait_in_driver(thread: &mut Thread) {
    let descriptor = thread.driver.wrapping_sub(1);
    let Some(regs) = saved::user_registers() else {
        return;
    };
    if !arch::is_epoll(arch::syscall(&regs)) || arch::arguments(&regs)[0] as u32 != descriptor {
        thread.driver = 0;
        return;
    }
    if let Some(driver) = DRIVERS.get_ptr_mut(&driver_key(thread)) {
        // SAFETY: as in `enter_driver`.
        unsafe { (*driver).left_ns = 0 };
        thread.flags |= Thread::IN_DRIVER;
    }
}

/// A thread that waited in a driver's `epoll_wait` was made ready to run, and is back on a CPU.
/// Until then nobody turned it either.
#[inline(never)]
pub fn leave_driver(thread: &mut Thread, ready_ns: u64, now: u64) {
    thread.flags &= !Thread::IN_DRIVER;
    thread.driver_from_ns = thread.off_ns;
    thread.driver_to_ns = ready_ns;
    if let Some(driver) = DRIVERS.get_ptr_mut(&driver_key(thread)) {
        // SAFETY: as in `enter_driver`.
        let driver = unsafe { &mut *driver };
        driver.left_ns = now;
        driver.tid = thread.tid;
        Longest::note(&mut driver.longest, look(thread), now - ready_ns);
    }
}

/// A thread ends. If it was the last one that turned a driver, its runtime has ended with it, or
/// others turn it from now on.
#[inline(always)]
pub fn forget_driver(thread: &Thread) {
    let key = driver_key(thread);
    if thread.driver != 0
        && DRIVERS
            .get_ptr_mut(&key)
            // SAFETY: as in `enter_driver`.
            .is_some_and(|driver| unsafe { (*driver).tid } == thread.tid)
    {
        let _ = DRIVERS.remove(&key);
    }
}

/// The driver that the thread has called last, in the map `DRIVERS`.
#[inline(always)]
fn driver_key(thread: &Thread) -> Own {
    Own::new(thread.target, u64::from(thread.driver.wrapping_sub(1)))
}

#[inline(always)]
fn look(thread: &Thread) -> u64 {
    config(thread.target).map_or(0, |config| config.look)
}
