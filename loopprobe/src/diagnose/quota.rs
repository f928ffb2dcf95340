//! How long the control group was throttled, from `cpu.stat` over the last half minute.

use std::{
    collections::VecDeque,
    fs,
    path::{Path, PathBuf},
};

use super::ThrottleDelta;
use crate::process::Gauge;

/// Readings that are kept; at ten a second, the last half minute.
const HISTORY: usize = 300;

/// What the CPU controller of a process's control group counts, over time.
#[derive(Debug)]
pub struct CpuQuota {
    /// The `cpu.stat` files of the group and of those above it that have a quota or may get one.
    files: Vec<Gauge>,
    readings: VecDeque<Reading>,
}

#[derive(Clone, Debug)]
struct Reading {
    time_ns: u64,
    /// One for each file.
    totals: Vec<ThrottleDelta>,
}

impl CpuQuota {
    /// The control group of a process; `None` where it is in none with a CPU controller, or that
    /// cannot be seen.
    pub fn of(pid: u32) -> Option<Self> {
        let membership = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let group = locate(&membership, &mounts)?;
        let files: Vec<Gauge> = group
            .folder
            .ancestors()
            .take_while(|folder| folder.starts_with(&group.mount))
            .filter_map(|folder| Gauge::open(folder.join("cpu.stat")).ok())
            .filter(|file| read(file).is_some())
            .collect();
        if files.is_empty() {
            return None;
        }
        let mut quota = Self {
            files,
            readings: VecDeque::new(),
        };
        // Before any poll that can be asked about.
        quota.read(0);
        Some(quota)
    }

    /// Reads the counters. Call it a few times a second (`now_ns`: `CLOCK_MONOTONIC`), and once
    /// before a diagnosis.
    pub fn read(&mut self, now_ns: u64) {
        let totals = self
            .files
            .iter()
            .map(|file| read(file).unwrap_or_default())
            .collect();
        if self.readings.len() == HISTORY {
            self.readings.pop_front();
        }
        self.readings.push_back(Reading {
            time_ns: now_ns,
            totals,
        });
    }

    /// What was counted between the last reading before `start_ns` and the first one after
    /// `end_ns`, in the group where it was most.
    pub fn between(&self, start_ns: u64, end_ns: u64) -> Option<ThrottleDelta> {
        let before = self
            .readings
            .iter()
            .rev()
            .find(|reading| reading.time_ns <= start_ns)
            .or(self.readings.front())?;
        let after = self
            .readings
            .iter()
            .find(|reading| reading.time_ns >= end_ns)
            .or(self.readings.back())?;
        before
            .totals
            .iter()
            .zip(&after.totals)
            .map(|(before, after)| ThrottleDelta {
                periods: after.periods.saturating_sub(before.periods),
                throttled_ns: after.throttled_ns.saturating_sub(before.throttled_ns),
            })
            .max_by_key(|delta| delta.throttled_ns)
    }
}

/// A group's folder, and the mount that it lies below.
#[derive(Debug, PartialEq, Eq)]
struct Group {
    mount: PathBuf,
    folder: PathBuf,
}

/// Finds the folder of the group with the CPU controller: version 1 names it in `/proc/PID/cgroup`,
/// version 2 has one hierarchy (`Documentation/admin-guide/cgroup-v2.rst`).
fn locate(membership: &str, mounts: &str) -> Option<Group> {
    let lines = || {
        membership.lines().filter_map(|line| {
            let mut fields = line.splitn(3, ':');
            Some((fields.next()?, fields.next()?, fields.next()?))
        })
    };
    let first = lines()
        .find(|(_, controllers, _)| controllers.split(',').any(|name| name == "cpu"))
        .and_then(|(_, _, path)| below(mounts, "cgroup", Some("cpu"), path));
    first.or_else(|| {
        let (_, _, path) = lines().find(|(number, ..)| *number == "0")?;
        below(mounts, "cgroup2", None, path)
    })
}

/// Where a group lies below the mount of its hierarchy. A mount may show only a part of the
/// hierarchy, as in containers.
fn below(mounts: &str, kind: &str, controller: Option<&str>, path: &str) -> Option<Group> {
    mounts.lines().find_map(|line| {
        let (mount, rest) = line.split_once(" - ")?;
        let mut rest = rest.split(' ');
        let (file_system, options) = (rest.next()?, rest.nth(1)?);
        let fits = controller.is_none_or(|name| options.split(',').any(|option| option == name));
        if file_system != kind || !fits {
            return None;
        }
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, Path::new(fields.next()?));
        let relative = Path::new(path).strip_prefix(root).ok()?;
        Some(Group {
            mount: point.to_owned(),
            folder: point.join(relative),
        })
    })
}

/// Reads a `cpu.stat`: version 1 counts `throttled_time` in nanoseconds, version 2
/// `throttled_usec`.
fn read(file: &Gauge) -> Option<ThrottleDelta> {
    parse(&file.read()?)
}

fn parse(text: &str) -> Option<ThrottleDelta> {
    let value = |name: &str| {
        text.lines().find_map(|line| {
            line.strip_prefix(name)?
                .strip_prefix(' ')?
                .parse::<u64>()
                .ok()
        })
    };
    let throttled_ns = value("throttled_time")
        .or_else(|| value("throttled_usec").map(|usec| usec.saturating_mul(1_000)))?;
    Some(ThrottleDelta {
        periods: value("nr_throttled")?,
        throttled_ns,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_of_the_counters_are_read() {
        let expected = Some(ThrottleDelta {
            periods: 3,
            throttled_ns: 5_000_000,
        });
        let v1 = "nr_periods 10\nnr_throttled 3\nthrottled_time 5000000\n";
        let v2 = "usage_usec 9\nnr_periods 10\nnr_throttled 3\nthrottled_usec 5000\n";
        assert_eq!(parse(v1), expected);
        assert_eq!(parse(v2), expected);
        assert_eq!(parse("usage_usec 9\n"), None);
    }

    #[test]
    fn the_group_is_found_in_both_hierarchies() {
        let v1 = locate(
            "4:memory:/x\n3:cpu,cpuacct:/web/api\n0::/other\n",
            "30 25 0:26 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n",
        );
        assert_eq!(
            v1.map(|group| group.folder),
            Some(PathBuf::from("/sys/fs/cgroup/cpu,cpuacct/web/api"))
        );
        let v2 = locate(
            "0::/pod/web\n",
            "31 25 0:27 /pod /sys/fs/cgroup rw,nosuid shared:1 - cgroup2 cgroup2 rw\n",
        );
        assert_eq!(
            v2.map(|group| group.folder),
            Some(PathBuf::from("/sys/fs/cgroup/web"))
        );
    }

    #[test]
    fn a_poll_gets_what_was_counted_around_it() {
        let reading = |time_ns, periods| Reading {
            time_ns,
            totals: vec![ThrottleDelta {
                periods,
                throttled_ns: periods * 10,
            }],
        };
        let quota = CpuQuota {
            files: Vec::new(),
            readings: [
                reading(10, 1),
                reading(20, 2),
                reading(30, 5),
                reading(40, 9),
            ]
            .into(),
        };
        let delta = quota.between(22, 29).map(|delta| delta.periods);
        assert_eq!(delta, Some(3));
        assert_eq!(quota.between(41, 50).map(|delta| delta.periods), Some(0));
    }
}
