//! What a judge says.

use serde::{Deserialize, Serialize};

use crate::{
    Timestamp,
    plan::{Metric, OnBreach, Severity},
};

/// What the data says about one criterion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The canary keeps the criterion.
    Pass,
    /// The canary breaks it.
    Fail,
    /// There is data, but it does not decide.
    Inconclusive,
    /// There is no usable data.
    Unknown,
    /// Both arms break the same limit: the cause may lie outside the canary, or the canary may harm what both share.
    Environment,
}

impl Verdict {
    /// The word in output.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Inconclusive => "inconclusive",
            Self::Unknown => "unknown",
            Self::Environment => "environment",
        }
    }

    /// What the worse of two verdicts is judged by: missing data is worse than a pass, and a breach is worse than both.
    pub(super) fn badness(self) -> u8 {
        match self {
            Self::Pass => 0,
            Self::Inconclusive => 1,
            Self::Unknown => 2,
            Self::Environment => 3,
            Self::Fail => 4,
        }
    }
}

/// One criterion at the last evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CriterionAssessment {
    /// The criterion's or guard's name.
    pub name: String,
    /// What it looks at.
    pub metric: Metric,
    /// What the data says.
    pub verdict: Verdict,
    /// The canary's value in the metric's unit, if there is one.
    pub canary: Option<f64>,
    /// Stable's value over the same time, if there is one.
    pub stable: Option<f64>,
    /// What a fail does.
    pub on_breach: OnBreach,
    /// How much it weighs in the health score.
    pub severity: Severity,
    /// How close the canary is to failing, 0 to 1: 0 at half of the limit or better and 1 at it (threshold judge), or how far
    /// the evidence has come (sequential judge). `None` without data.
    pub pressure: Option<f64>,
    /// What the evidence amounts to, for judges that weigh evidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<EvidenceLevel>,
    /// The verdict in words with its numbers.
    pub text: String,
}

/// What a sequential test knows at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EvidenceLevel {
    /// Evidence against the canary as a multiple of what chance gives, weighted by its share of the alarm budget; 1e300 at most.
    pub harm: f64,
    /// The harm at which the criterion fails: one over the probability of a false rollback.
    pub needed: f64,
    /// The canary's rate divided by stable's, if that is what is compared and anything was seen.
    pub ratio: Option<f64>,
    /// Where that ratio surely lies; the upper end is absent if nothing bounds it.
    pub ratio_between: Option<(f64, Option<f64>)>,
    /// Canary requests until the criterion is expected to pass, if it goes on as so far.
    pub requests_to_pass: Option<f64>,
}

/// All criteria that apply at the moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Assessment {
    /// When the criteria were last evaluated; `None` before the first time.
    pub evaluated_at: Option<Timestamp>,
    /// Every criterion that applies at the current weight, in the plan's order.
    pub criteria: Vec<CriterionAssessment>,
    /// Guards that are broken right now.
    pub broken_guards: Vec<CriterionAssessment>,
}

impl Assessment {
    /// The first broken rule that acts on traffic: guards first, then criteria in the plan's order.
    #[must_use]
    pub fn first_with(&self, verdict: Verdict, on_breach: OnBreach) -> Option<&CriterionAssessment> {
        self.broken_guards.iter().chain(&self.criteria).find(|one| one.verdict == verdict && one.on_breach == on_breach)
    }

    /// Whether every criterion that can stop the release was evaluated and passes. Criteria that only warn do not count.
    #[must_use]
    pub fn all_pass(&self) -> bool {
        self.evaluated_at.is_some()
            && self.broken_guards.is_empty()
            && self.criteria.iter().filter(|one| one.on_breach != OnBreach::Warn).all(|one| one.verdict == Verdict::Pass)
    }

    /// The first guard or criterion that can stop the release and does not pass.
    #[must_use]
    pub fn first_open(&self) -> Option<&CriterionAssessment> {
        self.broken_guards.iter().chain(&self.criteria).find(|one| one.on_breach != OnBreach::Warn && one.verdict != Verdict::Pass)
    }

    /// 100 minus weighted penalties: 0 for a criterion clearly kept, its full share at the limit or beyond; critical
    /// criteria weigh twice. `None` without any data.
    #[must_use]
    pub fn health(&self) -> Option<u8> {
        let weigh = |severity| match severity {
            Severity::Critical => 2.0,
            Severity::Warning => 1.0,
        };
        let (mut penalty, mut whole) = (0.0, 0.0);
        for one in self.criteria.iter().chain(&self.broken_guards) {
            if let Some(pressure) = one.pressure {
                penalty += weigh(one.severity) * pressure;
                whole += weigh(one.severity);
            }
        }
        // In range by construction: pressure lies within 0 and 1, and a cast saturates.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        (whole > 0.0).then(|| (100.0 * (1.0 - penalty / whole)).round() as u8)
    }
}
