//! What can go wrong, and when: every fault is an episode with a beginning and an end, so that the rules can tell a router
//! that does not answer from one that answers and is not asked.

use crate::random::Random;

/// The kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Answers to effects get lost.
    AnswersLost,
    /// Answers arrive twice, the second time late.
    AnswersDoubled,
    /// Answers and changes take seconds, each its own, so that they overtake one another.
    AnswersSlow,
    /// Effects fail although they were carried out, or before they were.
    EffectsFail,
    /// A router cannot be reached.
    RouterDown,
    /// A router says yes and does nothing.
    RouterDeaf,
    /// A router is read back from a cache.
    RouterStale,
    /// Somebody changes a router by hand.
    RouterTampered,
    /// The data plane splits in another proportion than asked.
    SplitWrong,
    /// The canary's requests fail.
    CanaryBad,
    /// Stable's requests fail.
    StableBad,
    /// Requests of both fail while the canary gets traffic.
    SharedHarm,
    /// Hardly anybody sends requests.
    TrafficGone,
    /// Nothing is measured.
    SourceSilent,
    /// Everything measured is handed over twice.
    SourceDoubles,
    /// What is measured arrives late, several looks at once.
    SourceBursts,
    /// The counters jump.
    SourceJumps,
    /// The canary's processes crash.
    CanaryCrashes,
    /// The canary's processes start and never become ready.
    CanaryNeverReady,
    /// Stable has no ready replica.
    StableGone,
    /// Stable's replicas come and go.
    StableFlaps,
    /// The journal cannot be written; the latch, which needs no space, can.
    DiskFull,
    /// Neither journal nor latch can be written.
    DiskDead,
    /// A crash may take entries with it that were reported as written.
    DiskLies,
    /// The control process dies.
    Crash,
    /// There is no checkpoint after a crash.
    CheckpointLost,
    /// The clock jumps ahead.
    ClockForward,
    /// The clock jumps back.
    ClockBack,
    /// The clock stands still.
    ClockStands,
    /// People send commands that nobody asked for.
    People,
    /// Preflight finds something.
    PreflightFails,
}

impl Kind {
    /// Every kind, in the order of its bit.
    pub(crate) const ALL: [Self; 31] = [
        Self::AnswersLost,
        Self::AnswersDoubled,
        Self::AnswersSlow,
        Self::EffectsFail,
        Self::RouterDown,
        Self::RouterDeaf,
        Self::RouterStale,
        Self::RouterTampered,
        Self::SplitWrong,
        Self::CanaryBad,
        Self::StableBad,
        Self::SharedHarm,
        Self::TrafficGone,
        Self::SourceSilent,
        Self::SourceDoubles,
        Self::SourceBursts,
        Self::SourceJumps,
        Self::CanaryCrashes,
        Self::CanaryNeverReady,
        Self::StableGone,
        Self::StableFlaps,
        Self::DiskFull,
        Self::DiskDead,
        Self::DiskLies,
        Self::Crash,
        Self::CheckpointLost,
        Self::ClockForward,
        Self::ClockBack,
        Self::ClockStands,
        Self::People,
        Self::PreflightFails,
    ];

    /// The kind of this name, as transcripts have it.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| format!("{kind:?}") == name)
    }

    /// How likely a release meets it at all.
    fn probability(self) -> f64 {
        match self {
            Self::Crash | Self::People => 0.45,
            Self::CanaryBad => 0.2,
            Self::StableBad | Self::SharedHarm | Self::StableGone => 0.12,
            Self::CanaryCrashes | Self::CanaryNeverReady | Self::PreflightFails => 0.05,
            Self::DiskFull | Self::DiskLies | Self::RouterDown | Self::RouterDeaf | Self::RouterTampered => 0.2,
            Self::DiskDead => 0.08,
            Self::CheckpointLost => 0.3,
            _ => 0.15,
        }
    }

    /// Whether it happens in an instant.
    pub(crate) fn is_instant(self) -> bool {
        matches!(self, Self::RouterTampered | Self::Crash | Self::ClockForward | Self::ClockBack | Self::People)
    }

    /// How long an episode may last, in milliseconds, where ticks would be too long.
    fn longest_ms(self) -> u64 {
        match self {
            // Each of these is tried again twice a second.
            Self::RouterDown | Self::RouterDeaf | Self::RouterStale | Self::EffectsFail => 40_000,
            Self::DiskFull | Self::DiskDead | Self::ClockStands => 60_000,
            _ => u64::MAX,
        }
    }

    fn bit(self) -> u64 {
        1 << self as u64
    }
}

/// A set of kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kinds(u64);

impl Kinds {
    /// Every kind.
    pub(crate) const ALL: Self = Self(u64::MAX);
    /// No kind.
    pub(crate) const NONE: Self = Self(0);

    pub(crate) fn has(self, kind: Kind) -> bool {
        self.0 & kind.bit() != 0
    }

    pub(crate) fn without(self, kind: Kind) -> Self {
        Self(self.0 & !kind.bit())
    }

    /// This set with one more.
    pub(crate) fn with(self, kind: Kind) -> Self {
        Self(self.0 | kind.bit())
    }
}

/// One fault from its beginning to its end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Episode {
    pub(crate) kind: Kind,
    /// True time since the start of the world, in milliseconds.
    pub(crate) from_ms: u64,
    pub(crate) to_ms: u64,
    /// How bad, 0 to 1.
    pub(crate) how: f64,
}

/// What goes wrong within `horizon_ms`, of the kinds that `allowed` has.
pub(crate) fn episodes(seed: u64, allowed: Kinds, horizon_ms: u64, tick_ms: u64) -> Vec<Episode> {
    let mut luck = Random::new(seed, 100);
    // Some days are good.
    let badness = luck.pick(&[0.0, 0.5, 1.0, 1.0, 1.0, 1.6]);
    let met =
        Kind::ALL.into_iter().fold(Kinds::NONE, |met, kind| if luck.chance(kind.probability() * badness) { met.with(kind) } else { met });
    let mut found = Vec::new();
    for kind in Kind::ALL.into_iter().filter(|kind| met.has(*kind) && allowed.has(*kind)) {
        let mut random = Random::new(seed, 200 + kind as u64);
        let often = if kind.is_instant() { random.range(1, 5) } else { random.range(1, 2) };
        for _ in 0..often {
            let at_once = matches!(kind, Kind::PreflightFails | Kind::CanaryNeverReady) && random.chance(0.6);
            let from_ms = if at_once {
                0
            } else if random.chance(0.2) {
                random.below(tick_ms * 3)
            } else {
                random.below(horizon_ms.max(1))
            };
            let ticks = [1, 2, 4, 10, 30][random.index(5)];
            let longest = random.range(1, ticks * tick_ms).min(kind.longest_ms());
            let to_ms = if kind.is_instant() { from_ms } else { from_ms + longest };
            found.push(Episode { kind, from_ms, to_ms: to_ms.min(horizon_ms.max(from_ms)), how: random.unit() });
        }
    }
    found.sort_by_key(|episode| (episode.from_ms, episode.kind));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_bit_of_its_own() {
        for (index, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index);
            assert!(!Kinds::ALL.without(kind).has(kind) && Kinds::NONE.with(kind).has(kind));
        }
    }

    #[test]
    fn leaving_a_kind_out_leaves_the_others_as_they_are() {
        let seed = (0..).find(|seed| episodes(*seed, Kinds::ALL, 100_000, 1_000).iter().any(|one| one.kind == Kind::Crash)).unwrap();
        let rest = |allowed| -> Vec<_> {
            let all = episodes(seed, allowed, 100_000, 1_000);
            all.into_iter().filter(|one| one.kind != Kind::Crash).map(|one| (one.kind, one.from_ms, one.to_ms)).collect()
        };
        assert_eq!(rest(Kinds::ALL), rest(Kinds::ALL.without(Kind::Crash)));
    }
}
