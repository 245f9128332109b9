//! The kayenta judge: rank tests over time series and a score, for people who bring their canary configs along.
//!
//! Every `interval_ms` since the stage began each criterion's series, one value per `step_ms` and arm, are classified as Pass,
//! High or Low; experiment is the canary, control is stable. The share of criteria that pass, in percent, is the score. All
//! criteria are one group.
//!
//! | score | criteria that are High or Low |
//! |---|---|
//! | below `marginal` | fail at once and for the rest of the stage, since every score of a stage has to reach it |
//! | below `pass` | are inconclusive |
//! | `pass` or more | pass with the others |
//!
//! - What counts follows from `versus_stable`: a rise if there is a `ratio` or `increase`, a fall if there is a `decrease`.
//!   `ratio` and `1 - decrease` are the least size of an effect as a quotient of means. An `increase` has no counterpart in
//!   Kayenta and is not looked at; neither are `max` and `min`. The release document refuses what is not looked at.
//! - No criterion is critical in Kayenta's sense, whatever its severity: one of them makes the score 0, and as criteria are
//!   of critical severity unless they say otherwise, `pass` and `marginal` would mean nothing.
//! - Criteria that only warn are classified but are not in the score: Kayenta calls that muted.
//! - No value at all in one of the arms is unknown, and as in Kayenta half of the criteria without data make the score 0; but
//!   that fails nothing by itself. Fewer than five values in an arm are inconclusive and not in the score: of two values against
//!   two, drawn alike, up to one in six comparisons would be High.
//! - Where only one arm gets traffic nothing is compared: criteria do not apply, [guards](super::guards) do.
//! - Between judgements the last one stands, and a stage may pass on it. A restarted shell begins afresh: until the next
//!   judgement nothing passes. What failed before was acted upon, and that is in the journal.
//!
//! Known weaknesses, beside those of repeated looks: where most steps have no errors at all the median shift is 0, and a
//! canary with four times the errors passes; Kayenta compares with a baseline of the canary's size and age, and stable is neither.

mod finding;
mod series;
#[cfg(test)]
mod tests;

pub use finding::LEAST_VALUES;
use finding::{Finding, Outcome};
use series::Series;
use serin_stats::kayenta::{self, Class, Scored};

use super::{Assessment, CriterionAssessment, Verdict, guards::Guards, sights::Sights, slices::Slices};
use crate::{
    Timestamp, Unit, WeightBps, format_value, human_duration,
    plan::{Criterion, KayentaRules, OnBreach, Plan},
    traffic::{Arm, Observation},
};

/// Kayenta's name for the criteria that are scored together.
const GROUP: &str = "criteria";

#[derive(Debug, Clone)]
pub(super) struct KayentaJudge {
    rules: KayentaRules,
    guards: Guards,
    weight: WeightBps,
    criteria: Vec<Rule>,
    /// `None` where only one arm gets traffic.
    series: Option<Series>,
    began: Option<Timestamp>,
    /// Judgements that were due so far.
    judgements: u64,
    /// The last judgement's; `None` before the first, and without a criterion to score.
    score: Option<f64>,
    assessment: Assessment,
}

#[derive(Debug, Clone)]
struct Rule {
    criterion: Criterion,
    finding: Finding,
    /// The first score of the stage with which it failed.
    failed_at: Option<f64>,
}

impl KayentaJudge {
    pub(super) fn new(plan: &Plan, rules: KayentaRules) -> Self {
        Self {
            rules,
            guards: Guards::new(&plan.analysis.guards, Sights::new(&plan.analysis)),
            weight: WeightBps::ZERO,
            criteria: Vec::new(),
            series: None,
            began: None,
            judgements: 0,
            score: None,
            assessment: Assessment::default(),
        }
    }
    /// Series, scores and failures start afresh; guards run on.
    pub(super) fn begin_stage(&mut self, criteria: impl Iterator<Item = Criterion>, weight: WeightBps) {
        self.criteria = criteria.map(|criterion| Rule { criterion, finding: Finding::default(), failed_at: None }).collect();
        self.restart(weight);
    }

    /// The canary lost its traffic: from here on only guards watch stable.
    pub(super) fn begin_retreat(&mut self) {
        self.guards.clear();
        self.criteria.clear();
        self.restart(WeightBps::ZERO);
    }

    /// Whether stable alone keeps the limits, which are those of the guards, see [`Guards::stable_keeps_limits`].
    pub(super) fn stable_keeps_limits(&self, broken: Option<&str>, now: Timestamp) -> Option<bool> {
        self.guards.stable_keeps_limits(broken, now)
    }

    /// Takes in what was observed. The last judgement stands while observations come in, so that its age is theirs.
    pub(super) fn observe(&mut self, observation: &Observation, slices: &Slices) {
        let now = observation.at;
        self.assessment.broken_guards = self.guards.observe(observation, slices, self.weight);
        self.assessment.evaluated_at = Some(now);
        let elapsed_ms = now.ms_since(*self.began.get_or_insert(now));
        let interval_ms = self.rules.interval_ms.max(1);
        let Some(series) = &mut self.series else { return };
        series.add(elapsed_ms, slices, &observation.gauges);
        let due = elapsed_ms / interval_ms;
        if due > self.judgements {
            self.judgements = due;
            self.judge();
        } else if self.judgements == 0 {
            // Until there is a judgement people are shown the values that there are.
            for (line, rule) in self.criteria.iter_mut().enumerate() {
                rule.finding.look(series.values(line, Arm::Canary), series.values(line, Arm::Stable));
            }
        }
        let next_ms = self.judgements.saturating_add(1).saturating_mul(interval_ms).saturating_sub(elapsed_ms);
        self.assessment.criteria = self.criteria.iter().map(|rule| rule.assess(&self.rules, self.score, next_ms)).collect();
    }

    pub(super) fn assessment(&self) -> &Assessment {
        &self.assessment
    }

    fn restart(&mut self, weight: WeightBps) {
        let compares = !weight.is_zero() && weight != WeightBps::FULL;
        let metrics = self.criteria.iter().map(|rule| rule.criterion.metric);
        self.series = compares.then(|| Series::new(self.rules.step_ms, weight, metrics));
        self.weight = weight;
        self.began = None;
        self.judgements = 0;
        self.score = None;
        self.assessment = Assessment::default();
    }

    fn judge(&mut self) {
        let Some(series) = &self.series else { return };
        for (line, rule) in self.criteria.iter_mut().enumerate() {
            rule.finding.classify(&rule.criterion, series.values(line, Arm::Canary), series.values(line, Arm::Stable));
        }
        let scored: Vec<Scored<'_>> = self.criteria.iter().filter_map(Rule::scored).collect();
        self.score = (!scored.is_empty()).then(|| kayenta::score(&scored, &[]));
        if let Some(score) = self.score.filter(|score| *score < self.rules.marginal) {
            for rule in self.criteria.iter_mut().filter(|rule| rule.scored().is_some() && rule.finding.differs()) {
                rule.failed_at.get_or_insert(score);
            }
        }
    }
}

impl Rule {
    /// The criterion's part in the score; `None` if it has none.
    fn scored(&self) -> Option<Scored<'static>> {
        let class = match self.finding.outcome {
            _ if self.criterion.on_breach == OnBreach::Warn => return None,
            Outcome::NotYet | Outcome::TooFew { .. } => return None,
            Outcome::NoData | Outcome::Unfit(_) => Class::Nodata,
            Outcome::Classified(class) => class,
        };
        Some(Scored { group: GROUP, class, critical: false, muted: false })
    }

    /// What the last judgement says. `next_ms`: time until the next one.
    fn assess(&self, rules: &KayentaRules, score: Option<f64>, next_ms: u64) -> CriterionAssessment {
        let verdict = self.verdict(rules, score);
        CriterionAssessment {
            name: self.criterion.name.clone(),
            metric: self.criterion.metric,
            verdict,
            canary: self.finding.canary,
            stable: self.finding.stable,
            on_breach: self.criterion.on_breach,
            severity: self.criterion.severity,
            pressure: match self.finding.outcome {
                Outcome::Classified(_) => Some(if self.finding.differs() { 1.0 } else { 0.0 }),
                _ => None,
            },
            evidence: None,
            text: self.text(verdict, rules, score, next_ms),
        }
    }

    fn verdict(&self, rules: &KayentaRules, score: Option<f64>) -> Verdict {
        match self.finding.outcome {
            _ if self.failed_at.is_some() => Verdict::Fail,
            Outcome::NotYet | Outcome::TooFew { .. } => Verdict::Inconclusive,
            Outcome::NoData | Outcome::Unfit(_) => Verdict::Unknown,
            Outcome::Classified(_) if !self.finding.differs() => Verdict::Pass,
            Outcome::Classified(_) if self.scored().is_none() => Verdict::Fail,
            Outcome::Classified(_) if score.is_some_and(|score| score >= rules.pass) => Verdict::Pass,
            Outcome::Classified(_) => Verdict::Inconclusive,
        }
    }

    fn text(&self, verdict: Verdict, rules: &KayentaRules, score: Option<f64>, next_ms: u64) -> String {
        let next = human_duration(next_ms);
        if self.finding.outcome == Outcome::NotYet {
            return format!("first judgement in {next}");
        }
        let mut text = self.finding.words(self.criterion.metric);
        if let (Outcome::Classified(_), Some(_), Some(score)) = (&self.finding.outcome, self.scored(), score) {
            text = format!("{text}; score {} of {}", points(score), points(rules.pass));
        }
        if let Some(failed) = self.failed_at.filter(|failed| score != Some(*failed) || !self.finding.differs()) {
            text = format!("{text}; a score of {} failed this stage before, {} needed", points(failed), points(rules.marginal));
        }
        match verdict {
            Verdict::Inconclusive | Verdict::Unknown => format!("{text}; next judgement in {next}"),
            _ => text,
        }
    }
}

fn points(score: f64) -> String {
    format_value(score, Unit::Count)
}
