//! Processor and memory use of process groups, from one pass over `/proc` for all of them.
//!
//! A process that starts and ends between two passes is not seen.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Instant,
};

use super::proc_stat::{self, Look};

/// What a process group uses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Usage {
    /// Percent of one processor since the pass before; `None` in the first one.
    pub(super) cpu_percent: Option<f64>,
    /// Bytes of memory; shared pages count for each process.
    pub(super) memory_bytes: u64,
}

/// Remembers the pass before.
#[derive(Debug, Default)]
pub(super) struct Sampler {
    at: Option<Instant>,
    groups: BTreeSet<u32>,
    /// Clock ticks used by each process, by pid and start time.
    ticks: HashMap<(u32, u64), u64>,
}

impl Sampler {
    /// The use of each of `groups` that has a running process.
    pub(super) fn sample(&mut self, look: &Look, groups: BTreeSet<u32>) -> BTreeMap<u32, Usage> {
        let seconds = self.at.map(|at| look.at.duration_since(at).as_secs_f64()).filter(|seconds| *seconds > 0.0);
        let mut ticks = HashMap::new();
        let mut used: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
        for process in groups.iter().flat_map(|group| look.group(*group)) {
            let key = (process.pid, process.start_time);
            let before = self.ticks.get(&key).copied().unwrap_or(0);
            let (cpu, pages) = used.entry(process.group).or_default();
            *cpu = cpu.saturating_add(process.cpu_ticks.saturating_sub(before));
            *pages = pages.saturating_add(process.resident_pages);
            ticks.insert(key, process.cpu_ticks);
        }
        let percent = |group: &u32, cpu: u64| {
            let seconds = seconds.filter(|_| self.groups.contains(group))?;
            #[expect(clippy::cast_precision_loss, reason = "ticks of one second are few")]
            let percent = cpu as f64 / ticks_per_second() as f64 / seconds * 100.0;
            Some((percent * 10.0).round() / 10.0)
        };
        let usage = |(group, (cpu, pages)): (u32, (u64, u64))| {
            (group, Usage { cpu_percent: percent(&group, cpu), memory_bytes: pages.saturating_mul(page_bytes()) })
        };
        let usages = used.into_iter().map(usage).collect();
        *self = Self { at: Some(look.at), groups, ticks };
        usages
    }
}

/// What this process has used since it was started: seconds of processor time, and bytes of memory now. `None` without `/proc`.
#[must_use]
pub fn own_use() -> Option<(f64, u64)> {
    let own = proc_stat::read(std::process::id())?;
    #[expect(clippy::cast_precision_loss, reason = "ticks stay exact for millions of years")]
    let seconds = own.cpu_ticks as f64 / ticks_per_second() as f64;
    Some((seconds, own.resident_pages.saturating_mul(page_bytes())))
}

fn ticks_per_second() -> u64 {
    rustix::param::clock_ticks_per_second().max(1)
}

fn page_bytes() -> u64 {
    rustix::param::page_size() as u64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{super::proc_stat::ProcStat, *};

    fn process(pid: u32, group: u32, cpu_ticks: u64) -> ProcStat {
        ProcStat { pid, group, running: true, start_time: 1, cpu_ticks, resident_pages: 10 }
    }

    #[test]
    fn use_is_the_difference_of_two_passes_over_the_whole_group() {
        let (mut sampler, start, hz) = (Sampler::default(), Instant::now(), ticks_per_second());
        let groups = BTreeSet::from([7]);
        let first = sampler.sample(&Look::new(start, vec![process(7, 7, 1_000 * hz), process(9, 9, 5)]), groups.clone());
        assert_eq!(first, BTreeMap::from([(7, Usage { cpu_percent: None, memory_bytes: 10 * page_bytes() })]));

        // The leader used half a second of two; a new child used one whole second; a zombie and a stranger do not count.
        let zombie = ProcStat { running: false, ..process(11, 7, 99 * hz) };
        let processes = vec![process(7, 7, 1_000 * hz + hz / 2), process(8, 7, hz), zombie, process(9, 9, 500 * hz)];
        let second = sampler.sample(&Look::new(start + Duration::from_secs(2), processes), groups.clone());
        assert_eq!(second, BTreeMap::from([(7, Usage { cpu_percent: Some(75.0), memory_bytes: 20 * page_bytes() })]));

        assert_eq!(sampler.sample(&Look::new(start + Duration::from_secs(3), Vec::new()), groups), BTreeMap::new());
    }
}
