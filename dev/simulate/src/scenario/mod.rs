//! What a seed stands for: a plan, and everything that will go wrong while it is carried out.

mod faults;
mod plan;

pub(crate) use faults::{Episode, Kind, Kinds};
pub(crate) use plan::bps;
use serin_core::plan::Plan;

use crate::random::Random;

/// No world is bad for longer than this many ticks.
const MOST_TICKS: u64 = 90;

/// One release in one world.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    pub(crate) plan: Plan,
    /// Time between two looks at the world, in milliseconds.
    pub(crate) tick_ms: u64,
    /// From then on the world is good, in milliseconds of true time since its start.
    pub(crate) horizon_ms: u64,
    pub(crate) episodes: Vec<Episode>,
    /// Requests per second by weight, and by declared matches.
    pub(crate) rps: f64,
    pub(crate) matched_rps: f64,
    /// Requests per second through an open preview.
    pub(crate) preview_rps: f64,
}

/// How a scenario is cut down, to see what a failure needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) allowed: Kinds,
    /// The world turns good after this share of its time, in percent.
    pub(crate) horizon_percent: u64,
}

impl Cut {
    /// The whole of it.
    pub(crate) const NONE: Self = Self { allowed: Kinds::ALL, horizon_percent: 100 };
}

impl Scenario {
    pub(crate) fn new(seed: u64, cut: Cut) -> Self {
        let (plan, tick_ms) = plan::plan(seed);
        let mut random = Random::new(seed, 2);
        let planned_ms = plan.expected_duration_ms() + plan.retain_ms + 8 * tick_ms;
        let whole_ms = (planned_ms * random.range(30, 160) / 100).min(MOST_TICKS * tick_ms);
        let rps = random.pick(&[2.0, 20.0, 200.0, 200.0, 2_000.0]) * 1_000.0 / (tick_ms.max(1_000) as f64).sqrt() / 31.6;
        let matched_rps = random.pick(&[0.0, 0.0, rps / 10.0]);
        let preview_rps = Random::new(seed, 4).pick(&[0.0, 0.1, 1.0, rps / 10.0]);
        let mut episodes = faults::episodes(seed, cut.allowed, whole_ms, tick_ms);
        // Cutting the horizon leaves what comes before it as it was.
        let horizon_ms = whole_ms * cut.horizon_percent / 100;
        episodes.retain_mut(|episode| {
            episode.to_ms = episode.to_ms.min(horizon_ms);
            episode.from_ms <= horizon_ms
        });
        Self { seed, plan, tick_ms, horizon_ms, episodes, rps, matched_rps, preview_rps }
    }

    /// The kinds of faults that it meets.
    pub(crate) fn kinds(&self) -> Vec<Kind> {
        let mut kinds: Vec<Kind> = self.episodes.iter().map(|episode| episode.kind).collect();
        kinds.sort();
        kinds.dedup();
        kinds
    }
}
