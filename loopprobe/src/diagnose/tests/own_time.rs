//! What was the code's own, and what was others'.

use super::*;

#[test]
fn what_stops_a_thread_comes_before_what_it_was_doing() {
    let of = |number: Option<i64>, halt| {
        let mut found = blocked(&[], number.unwrap_or(0), None, 5_000_000);
        found.syscall = found.syscall.filter(|_| number.is_some());
        found.halt = Some(halt);
        diagnosis(found)
    };
    let stopped = of(None, Halt::Stopped { signal: Some(19) });
    assert_eq!(
        (stopped.cause, stopped.evidence["signal"].as_str()),
        (Cause::Stopped, "SIGSTOP")
    );
    assert_eq!(of(Some(libc::SYS_futex), Halt::Frozen).cause, Cause::Frozen);
    assert_eq!(of(Some(libc::SYS_read), Halt::Traced).cause, Cause::Stopped);
    assert_eq!(
        of(None, Halt::Reclaim { group: true }).cause,
        Cause::Reclaim
    );
    assert_eq!(of(None, Halt::Elsewhere).cause, Cause::Unknown);
}

#[test]
fn a_yield_is_no_preemption() {
    let mut found = blocked(&["sched_yield"], libc::SYS_sched_yield, None, 20_000_000);
    found.stack.kind = StackKind::Runnable;
    found.halt = Some(Halt::Yields);
    let taker = Taker {
        name: "hog".to_owned(),
        process: Some(7),
        had_ns: 9_000_000,
    };
    let of = |stacks| {
        diagnose(&PollEvidence {
            split: Some(Split {
                runnable_ns: 21_000_000,
                ..Split::default()
            }),
            stacks,
            takers: vec![taker.clone()],
            ..PollEvidence::default()
        })
    };
    let spun = of(vec![found]);
    assert_eq!(spun.cause, Cause::Spin);
    assert_eq!(spun.call.expect("a call").function, "app::helper");
    let preempted = of(Vec::new());
    assert_eq!(preempted.cause, Cause::Preempted);
    assert_eq!(preempted.evidence["preempted_by"], "hog (7) 9 ms");
}

#[test]
fn a_loop_that_waits_spins_on_its_cpu() {
    let mut found = on_cpu(&[], 9);
    let of = |found: &StackEvidence| {
        diagnose(&PollEvidence {
            split: Some(Split {
                on_cpu_ns: 9,
                ..Split::default()
            }),
            stacks: vec![found.clone()],
            ..PollEvidence::default()
        })
    };
    assert_eq!(of(&found).cause, Cause::Cpu);
    found.spins = true;
    let spun = of(&found);
    assert_eq!(spun.cause, Cause::Spin);
    assert!(spun.advice.contains("keeps its CPU"), "{}", spun.advice);
}

#[test]
fn what_was_a_polls_own_keeps_the_advice_for_its_situation() {
    let wait = blocked(
        &[
            "std::sys::sync::mutex::futex::Mutex::lock_contended",
            "std::io::stdio::_print",
        ],
        libc::SYS_futex,
        None,
        30,
    );
    let found = diagnose(&PollEvidence {
        split: Some(Split {
            blocked_ns: 30,
            runnable_ns: 70,
            ..Split::default()
        }),
        stacks: vec![wait],
        ..PollEvidence::default()
    });
    assert_eq!(found.cause, Cause::Preempted);
    assert!(
        found
            .advice
            .contains("another thread holds the lock, as it does while it writes"),
        "{}",
        found.advice
    );
}

#[test]
fn the_largest_part_decides() {
    let stacks = vec![
        blocked(&[], libc::SYS_read, file("/a"), 4_000_000),
        on_cpu(&[], 3_000_000),
        blocked(&[], libc::SYS_pread64, file("/b"), 5_000_000),
        blocked(&[], libc::SYS_clock_nanosleep, None, 7_000_000),
    ];
    let found = diagnose(&PollEvidence {
        split: Some(Split {
            on_cpu_ns: 3_000_000,
            runnable_ns: 6_000_000,
            blocked_ns: 16_000_000,
        }),
        stacks,
        ..PollEvidence::default()
    });
    assert_eq!(found.cause, Cause::FileIo);
    assert_eq!(found.evidence["path"], "/b");
    assert_eq!(found.evidence["syscall"], "pread64");
    assert_eq!(found.evidence["ns"], "9000000");
}

#[test]
fn causes_of_one_kind_count_together() {
    let found = |on_cpu_ns| {
        diagnose(&PollEvidence {
            split: Some(Split {
                on_cpu_ns,
                runnable_ns: 0,
                blocked_ns: 7_000_000,
            }),
            stacks: vec![
                blocked(&[], libc::SYS_fsync, None, 5_000_000),
                blocked(&[], libc::SYS_openat, None, 2_000_000),
                on_cpu(&[], on_cpu_ns),
            ],
            ..PollEvidence::default()
        })
    };
    assert_eq!(found(6_000_000).cause, Cause::Fsync);
    assert_eq!(found(8_000_000).cause, Cause::Cpu);
}

#[test]
fn waits_for_memory_count_with_no_other_cause() {
    let found = diagnose(&PollEvidence {
        split: Some(Split {
            on_cpu_ns: 6_000_000,
            runnable_ns: 0,
            blocked_ns: 8_000_000,
        }),
        stacks: vec![
            blocked(&[], libc::SYS_munmap, None, 4_000_000),
            blocked(&[], libc::SYS_fsync, None, 4_000_000),
            on_cpu(&[], 6_000_000),
        ],
        ..PollEvidence::default()
    });
    assert_eq!(found.cause, Cause::Cpu);
}

#[test]
fn short_waits_count_with_the_ones_that_were_seen() {
    let of = |seen| {
        diagnose(&PollEvidence {
            split: Some(Split {
                blocked_ns: 100,
                ..Split::default()
            }),
            stacks: vec![blocked(&[], libc::SYS_fsync, None, seen)],
            ..PollEvidence::default()
        })
    };
    assert_eq!(of(10).cause, Cause::Fsync);
    assert_eq!(of(10).evidence["ns"], "100");
    assert_eq!(of(9).cause, Cause::Unknown);
}

#[test]
fn waiting_for_a_cpu_is_preemption_or_throttling() {
    let of = |throttle| {
        diagnose(&PollEvidence {
            split: Some(Split {
                on_cpu_ns: 5_000_000,
                runnable_ns: 20_000_000,
                blocked_ns: 0,
            }),
            stacks: vec![on_cpu(&[], 5_000_000)],
            throttle,
            ..PollEvidence::default()
        })
    };
    let delta = |throttled_ns| ThrottleDelta {
        periods: 2,
        throttled_ns,
    };
    assert_eq!(of(None).cause, Cause::Preempted);
    assert_eq!(of(Some(delta(1_000_000))).cause, Cause::Preempted);
    assert_eq!(of(Some(delta(18_000_000))).cause, Cause::Throttled);
    assert_eq!(
        of(Some(delta(18_000_000))).evidence["throttled_periods"],
        "2"
    );
    assert_eq!(of(None).call.expect("a call").function, "app::helper");
}

#[test]
fn computing_is_cpu_unless_samples_find_the_kernel_at_work() {
    let of = |number: Option<i64>, object, page_fault, kernel_ns| {
        let mut in_kernel = on_cpu(&[], kernel_ns);
        in_kernel.syscall = number.map(|number| RawSyscall {
            number: u32::try_from(number).expect("a number"),
            args: [0; 6],
        });
        in_kernel.object = object;
        in_kernel.page_fault = page_fault;
        diagnose(&PollEvidence {
            split: Some(Split {
                on_cpu_ns: 10_000_000,
                ..Split::default()
            }),
            stacks: vec![on_cpu(&[], 10_000_000 - kernel_ns), in_kernel],
            ..PollEvidence::default()
        })
        .cause
    };
    assert_eq!(of(None, None, true, 4_000_000), Cause::Cpu);
    assert_eq!(of(None, None, true, 6_000_000), Cause::PageFault);
    let read = Some(libc::SYS_read);
    assert_eq!(of(read, file("/a"), false, 6_000_000), Cause::FileIo);
    assert_eq!(of(read, file("/a"), false, 4_000_000), Cause::Cpu);
    assert_eq!(
        of(Some(libc::SYS_sched_yield), None, false, 6_000_000),
        Cause::Spin
    );
    assert_eq!(
        of(Some(libc::SYS_futex), None, false, 6_000_000),
        Cause::Cpu
    );
}

#[test]
fn what_an_allocator_takes_back_is_a_drop() {
    let of = |name: &str, role| {
        let mut found = on_cpu(&[name], 5);
        found.stack.frames[0].role = role;
        diagnose(&PollEvidence {
            stacks: vec![found],
            ..PollEvidence::default()
        })
    };
    assert_eq!(
        of("_rjem_je_tcache_bin_flush_small", Role::Allocator).cause,
        Cause::Drop
    );
    assert_eq!(of("cfree", Role::C).cause, Cause::Drop);
    assert_eq!(of("malloc", Role::C).cause, Cause::Cpu);
    assert_eq!(of("core::ptr::drop_in_place", Role::Std).cause, Cause::Drop);
    let copy = of("__memmove_avx_unaligned_erms", Role::C);
    assert_eq!(
        (copy.cause, copy.evidence["copying"].as_str()),
        (Cause::Cpu, "true")
    );
    assert!(copy.advice.contains("copies"), "{}", copy.advice);
}

#[test]
fn what_the_code_took_itself_is_not_excused() {
    let of = |on_cpu_ns| {
        diagnose(&PollEvidence {
            split: Some(Split {
                on_cpu_ns,
                runnable_ns: 67_000_000,
                blocked_ns: 0,
            }),
            stacks: vec![on_cpu(&[], on_cpu_ns)],
            ..PollEvidence::default()
        })
    };
    assert_eq!(of(30_000_000).cause, Cause::Preempted);
    let advice = of(30_000_000).advice;
    assert!(
        advice.starts_with("30 ms of it were the code's own, 30 ms of them computing: move"),
        "{advice}"
    );
    let advice = of(3_000_000).advice;
    assert!(!advice.contains("own"), "{advice}");
}

#[test]
fn what_others_took_is_not_the_codes_own() {
    let mut stopped = blocked(&[], 0, None, 30);
    stopped.halt = Some(Halt::Stopped { signal: Some(19) });
    let mut frozen = blocked(&[], 0, None, 20);
    frozen.halt = Some(Halt::Frozen);
    let slept = blocked(&["std::thread::sleep"], libc::SYS_nanosleep, None, 7);
    let mut yielded = blocked(&[], libc::SYS_sched_yield, None, 5);
    yielded.stack.kind = StackKind::Runnable;
    yielded.halt = Some(Halt::Yields);
    let found = diagnose(&PollEvidence {
        split: Some(Split {
            on_cpu_ns: 3,
            runnable_ns: 45,
            blocked_ns: 57,
        }),
        stacks: vec![stopped, frozen, slept, yielded],
        ..PollEvidence::default()
    });
    assert_eq!(found.own_ns, Some(3 + 7 + 5));
}
