//! What sources outside of Serin measured.
//!
//! Whatever a source is, its answers come down to three things: counts of both arms over the same span of time, a value of each
//! arm, or nothing that could be used, for a reason that people are told. How the arms' counters are brought to one span is
//! [`align`](super::align)'s part.

use serde::{Deserialize, Serialize};
use serin_stats::ArmCounts;

use crate::plan::MetricName;

/// One look at one metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Whose.
    pub metric: MetricName,
    /// What was seen.
    pub reading: Reading,
}

/// What one look at a metric showed. Arrays are by [`Arm::index`](super::Arm::index).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reading {
    /// What was counted since the look before, in both arms over the same span of time. Nothing at all is fine too: the source
    /// answered and has nothing new.
    Counts([ArmCounts; 2]),
    /// The values of the arms at present. `None`: that arm has none, for the reason that is given.
    Values([Option<f64>; 2], Option<Gap>),
    /// Nothing usable.
    Missing(Gap),
}

/// Why there is no measurement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// What kind of reason.
    pub kind: GapKind,
    /// The reason in words, for people.
    pub text: String,
}

/// The kinds of reasons for which there is no measurement. Each is another thing to repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GapKind {
    /// The source did not answer yet.
    NotYet,
    /// The source answered and knows no such series.
    Empty,
    /// The value is not a number, or infinite.
    NotANumber,
    /// Several series where one is needed.
    SeveralSeries,
    /// The newest sample is too old.
    Stale,
    /// The source did not answer in time.
    TimedOut,
    /// The source could not be reached.
    Unreachable,
    /// The source refused the question.
    Refused,
    /// The source answered with a warning: the answer may lack something.
    Warnings,
    /// The answer was not what such a source answers, or too large.
    Malformed,
    /// A secret that the question needs could not be read.
    Secret,
}

impl GapKind {
    /// The word in output.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotYet => "not yet",
            Self::Empty => "empty",
            Self::NotANumber => "not a number",
            Self::SeveralSeries => "several series",
            Self::Stale => "stale",
            Self::TimedOut => "timed out",
            Self::Unreachable => "unreachable",
            Self::Refused => "refused",
            Self::Warnings => "warnings",
            Self::Malformed => "malformed",
            Self::Secret => "secret",
        }
    }
}

impl std::fmt::Display for Gap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.kind.as_str(), self.text)
    }
}
