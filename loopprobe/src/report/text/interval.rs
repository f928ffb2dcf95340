//! Values over time, a line an interval.

use std::io::{self, Write};

use super::{WallClock, style, width::Width};
use crate::{
    model::{Interval, Pool, WorkerLoad},
    report::{Chosen, Count, Measured, clean, words},
};

/// More workers than this are not listed one by one.
const MOST_LISTED: usize = 8;

pub(super) fn line(
    out: &mut impl Write,
    interval: &Interval,
    clock: WallClock,
    width: Width,
) -> io::Result<()> {
    let time = clock.time_of_day(interval.time_ns);
    let mut parts = vec![words::count(interval.polls, "poll")];
    if interval.long_polls > 0 {
        parts.push(format!("{} long", interval.long_polls));
    }
    parts.extend(busy(&interval.workers));
    parts.push(match interval.driver_lag_ns {
        Some(lag) => format!(
            "driver lag {} (mean {})",
            Measured(lag.max),
            Measured(lag.mean)
        ),
        None => "driver lag unknown".to_owned(),
    });
    parts.extend(interval.wake_to_poll.as_ref().map(words::wake_to_poll));
    parts.push(tasks(interval));
    parts.extend(interval.pool.as_ref().map(pool));
    let (label, duration) = (
        "interval",
        Chosen(interval.duration_ns / 1_000_000 * 1_000_000),
    );
    let text = width.wrap(&format!("{duration}: {}", parts.join(", ")), 4);
    writeln!(
        out,
        "{time}  {}{label}{1:#} {text}",
        style::NOTE,
        style::NOTE
    )
}

/// How many tasks live, and how many came and went.
fn tasks(interval: &Interval) -> String {
    let Some(active) = interval.active_tasks else {
        return "tasks unknown".to_owned();
    };
    let count = words::count(active, "task");
    match (interval.spawned, interval.completed) {
        (Some(spawned), Some(completed)) => {
            format!("{count} (+{} -{})", Count(spawned), Count(completed))
        }
        _ => count,
    }
}

/// The blocking pool; its limit matters once something waits for a thread.
fn pool(pool: &Pool) -> String {
    let mut text = format!("pool {} busy", Count(pool.busy));
    if let Some(idle) = pool.idle {
        text += &format!(" {} idle", Count(idle));
    }
    if let (Some(queued @ 1..), Some(cap)) = (pool.queued, pool.cap) {
        text += &format!(" of at most {}, {} queued", Count(cap), Count(queued));
    }
    if let Some(oldest_ns) = pool.oldest_ns {
        text += &format!(" for {}", Measured(oldest_ns));
    }
    text
}

/// How busy the workers were, and for how long one did not park at most.
fn busy(workers: &[WorkerLoad]) -> Vec<String> {
    let Some(longest) = workers.iter().max_by_key(|worker| worker.longest_ns) else {
        return Vec::new();
    };
    let percent = |share: f64| format!("{:.0}%", share * 100.0);
    let shares: Vec<String> = if workers.len() <= MOST_LISTED {
        workers.iter().map(|worker| percent(worker.busy)).collect()
    } else {
        let all = workers.iter().map(|worker| worker.busy);
        let mean = all.clone().sum::<f64>() / workers.len() as f64;
        let most = all.fold(0.0, f64::max);
        vec![format!(
            "{} on average, {} at most",
            percent(mean),
            percent(most)
        )]
    };
    let count = words::count(workers.len() as u64, "worker");
    vec![
        format!("{count} busy {}", shares.join(" ")),
        format!(
            "{}/{} awake for {}",
            clean(&longest.thread),
            longest.tid,
            Measured(longest.longest_ns)
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_are_told_as_far_as_they_are_known() {
        let mut interval = Interval::default();
        assert_eq!(tasks(&interval), "tasks unknown");
        interval.active_tasks = Some(1);
        assert_eq!(tasks(&interval), "1 task");
        (interval.spawned, interval.completed) = (Some(30), Some(29));
        assert_eq!(tasks(&interval), "1 task (+30 -29)");
    }

    #[test]
    fn a_pool_has_a_limit_once_closures_wait() {
        let mut shown = Pool {
            busy: 2,
            idle: Some(1),
            queued: Some(0),
            cap: Some(4),
            oldest_ns: None,
        };
        assert_eq!(pool(&shown), "pool 2 busy 1 idle");
        (shown.queued, shown.oldest_ns) = (Some(3), Some(2_000_000_000));
        let text = "pool 2 busy 1 idle of at most 4, 3 queued for 2.00s";
        assert_eq!(pool(&shown), text);
    }
}
