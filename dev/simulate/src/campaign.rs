//! Many seeds on several threads. What comes out does not depend on how many.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use crate::{
    random::mix,
    rules::{Broken, End},
    scenario::{Cut, Scenario},
    world::{self, Counted},
};

/// Seeds that a thread takes at once.
const CHUNK: u64 = 16;

/// What many runs came to.
#[derive(Debug, Default)]
pub(crate) struct Results {
    /// Runs.
    pub(crate) releases: u64,
    /// How often each end was reached.
    pub(crate) ends: BTreeMap<End, u64>,
    /// Rules that were broken, by seed.
    pub(crate) broken: BTreeMap<u64, Broken>,
    /// Everything that happened, added up.
    pub(crate) counted: Counted,
    /// All fingerprints together, whatever their order.
    pub(crate) hash: u64,
}

impl Results {
    fn add(&mut self, seed: u64, outcome: world::Outcome) {
        self.releases += 1;
        self.hash ^= mix(outcome.hash ^ mix(seed));
        let (sum, one) = (&mut self.counted, &outcome.counted);
        sum.events += one.events;
        sum.entries += one.entries;
        sum.effects += one.effects;
        sum.commands += one.commands;
        sum.crashes += one.crashes;
        sum.ms += one.ms;
        for (sum, one) in sum.milestones.iter_mut().zip(one.milestones) {
            *sum += one;
        }
        match outcome.end {
            Ok(end) => *self.ends.entry(end).or_default() += 1,
            Err(broken) => drop(self.broken.insert(seed, broken)),
        }
    }
}

/// Runs every seed, or up to the first that breaks a rule.
pub(crate) fn run(seeds: Range<u64>, threads: usize, stop_at_first: bool) -> Results {
    let next = AtomicU64::new(seeds.start);
    let stop = AtomicBool::new(false);
    let results = Mutex::new(Results::default());
    thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let first = next.fetch_add(CHUNK, Ordering::Relaxed);
                    if first >= seeds.end {
                        break;
                    }
                    for seed in first..seeds.end.min(first + CHUNK) {
                        let outcome = world::live(Scenario::new(seed, Cut::NONE), false);
                        if outcome.end.is_err() && stop_at_first {
                            stop.store(true, Ordering::Relaxed);
                        }
                        results.lock().unwrap_or_else(PoisonError::into_inner).add(seed, outcome);
                    }
                }
            });
        }
    });
    results.into_inner().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEEDS: Range<u64> = 0..150;

    #[test]
    fn the_same_seed_is_the_same_story_on_any_thread() {
        let story = |seed| {
            let outcome = world::live(Scenario::new(seed, Cut::NONE), true);
            (outcome.hash, outcome.story)
        };
        let here: Vec<_> = SEEDS.map(story).collect();
        let there = thread::spawn(move || SEEDS.rev().map(story).collect::<Vec<_>>()).join().unwrap();
        for (seed, (one, two)) in SEEDS.zip(here.iter().zip(there.iter().rev())) {
            assert_eq!(one, two, "seed {seed}");
        }
        let mut hashes: Vec<u64> = here.iter().map(|(hash, _)| *hash).collect();
        hashes.sort_unstable();
        hashes.dedup();
        // Releases that are refused at once have few stories to tell.
        assert!(hashes.len() * 10 > here.len() * 9, "{} stories", hashes.len());
    }

    #[test]
    fn results_do_not_depend_on_threads_and_no_rule_is_broken() {
        let (one, many) = (run(SEEDS, 1, false), run(SEEDS, 5, false));
        assert_eq!(one.broken, BTreeMap::new());
        assert_eq!((one.releases, one.hash, &one.ends), (many.releases, many.hash, &many.ends));
        assert_eq!(one.releases, 150);
    }

    #[test]
    fn bad_days_are_bad() {
        let results = run(0..400, 2, false);
        assert!(results.counted.milestones.iter().all(|count| *count > 0), "{:?}", results.counted);
        assert_eq!(results.ends.len(), 3, "{:?}", results.ends);
        assert!(results.counted.crashes > 100);
    }
}
