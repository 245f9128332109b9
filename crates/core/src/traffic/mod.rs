//! The vocabulary of observed requests. The data plane counts in these words, the judge compares in them.

pub mod align;
mod counts;
mod measured;
mod observation;

pub use counts::{Counts, MAX_ERROR_CLASSES, OTHER_ERRORS, Outcome};
pub use measured::{Gap, GapKind, Measured, Reading};
pub use observation::{ArmGauges, Observation, OpenCell, ReplicaCell, Sessions, TrafficCell, by_arm};

use serde::{Deserialize, Serialize};

/// The two versions of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arm {
    /// The version that served before the release.
    Stable,
    /// The version on trial.
    Canary,
}

impl Arm {
    /// Both arms, stable first.
    pub const BOTH: [Self; 2] = [Self::Stable, Self::Canary];

    /// 0 for stable, 1 for the canary: for arrays by arm.
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Self::Stable => 0,
            Self::Canary => 1,
        }
    }

    /// `stable` or `canary`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Canary => "canary",
        }
    }
}

impl std::fmt::Display for Arm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a request came to its arm. Only [compared](Self::is_compared) requests enter comparisons between the arms:
/// the others are other populations, and mixing them in would make an equal canary look better or worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Assignment {
    /// By weight, at random within stratified blocks.
    Random,
    /// By weight, by the hash of a key that stays with the client.
    Sticky,
    /// By a declared header or cookie rule.
    Matched,
    /// The only arm that could serve it (100 % or 0 % weights, or the other arm is down).
    Forced,
    /// A copy whose answer nobody sees.
    Mirror,
    /// A request that failed on the canary and was carried out by stable. It never counts for or against stable.
    Rescue,
    /// Sent to the canary through the preview address, before anybody else is.
    Preview,
}

impl Assignment {
    /// Every assignment, in the order of its index.
    pub const ALL: [Self; 7] = [Self::Random, Self::Sticky, Self::Matched, Self::Forced, Self::Mirror, Self::Rescue, Self::Preview];

    /// Position in [`ALL`](Self::ALL): for arrays by assignment.
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Self::Random => 0,
            Self::Sticky => 1,
            Self::Matched => 2,
            Self::Forced => 3,
            Self::Mirror => 4,
            Self::Rescue => 5,
            Self::Preview => 6,
        }
    }

    /// Whether somebody asked for the canary: by a declared rule, or through the preview address. These are other populations than those that
    /// weights send, and are held against absolute limits apart from them.
    #[must_use]
    pub fn is_by_choice(self) -> bool {
        matches!(self, Self::Matched | Self::Preview)
    }

    /// Whether requests assigned like this may be compared between the arms.
    #[must_use]
    pub fn is_compared(self) -> bool {
        matches!(self, Self::Random | Self::Sticky)
    }
}
