//! One criterion or guard with the tests that it amounts to (ANALYSIS 2.10).

use serde::{Deserialize, Serialize};
use serin_stats::{ConfigError, DecayedHistogram, Family};

use super::{
    Evidence,
    after::AfterTest,
    feed::Feed,
    gauge::{Bound, GaugeTest},
    latency::LatencyTest,
    limit::LimitTest,
    rate::RateTest,
};
use crate::{
    WeightBps,
    judge::{CriterionAssessment, EvidenceLevel, Verdict, sights::Sights},
    plan::{Combine, Criterion, Guard, Metric},
};

/// A criterion under the sequential judge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Rule {
    pub(super) criterion: Criterion,
    /// The only stage it belongs to, if it does not hold for all.
    pub(super) step: Option<usize>,
    pub(super) is_guard: bool,
    pub(super) tests: Vec<Test>,
    /// How often a person went on although it had failed.
    pub(super) acknowledged: u32,
    /// Why it cannot be judged: a plan that no document can give.
    unusable: Option<String>,
}

/// A test with its share of the alarm budget.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Test {
    pub(super) kind: Kind,
    /// What its `ln E` has to reach. Follows from the plan, as does the share.
    #[serde(skip)]
    pub(super) ln_threshold: f64,
    /// `ln` of its share.
    #[serde(skip)]
    pub(super) ln_share: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Kind {
    Rate(Box<RateTest>),
    Latency(Box<LatencyTest>),
    Limit(Box<LimitTest>),
    Gauge(Box<GaugeTest>),
    After(Box<AfterTest>),
}

/// The stage that is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stage {
    pub(super) step: usize,
    pub(super) weight: WeightBps,
}

impl Rule {
    /// Whether a criterion is judged by evidence; the others are looked at as they stand.
    pub(super) fn is_for(criterion: &Criterion) -> bool {
        criterion.metric.is_evidence() || criterion.metric.is_gauge()
    }

    /// Whether a guard is. Whole minutes of CPU or memory are too slow for what is meant to act at once.
    pub(super) fn is_for_guard(guard: &Guard) -> bool {
        guard.metric.is_evidence()
    }

    pub(super) fn new(criterion: Criterion, step: Option<usize>, is_guard: bool) -> Self {
        let (tests, unusable) = match kinds(&criterion) {
            Ok(kinds) if kinds.is_empty() => (Vec::new(), Some("it has no limit that could be judged".to_owned())),
            Ok(kinds) => (kinds.into_iter().map(|kind| Test { kind, ln_threshold: f64::INFINITY, ln_share: 0.0 }).collect(), None),
            Err(error) => (Vec::new(), Some(error.to_string())),
        };
        Self { criterion, step, is_guard, tests, acknowledged: 0, unusable }
    }

    /// A person knows that it failed and goes on: what spoke against the canary so far is dealt with. The FAIL sides start
    /// anew, with half of their share of the budget. What is known of stable stays, and so does the PASS side: a stage passes by
    /// all that it has seen.
    pub(super) fn acknowledge(&mut self) {
        self.acknowledged = self.acknowledged.saturating_add(1);
        for test in &mut self.tests {
            match &mut test.kind {
                Kind::Rate(test) => test.acknowledge(),
                Kind::Latency(test) => test.acknowledge(),
                Kind::Limit(test) => test.acknowledge(),
                Kind::Gauge(test) => test.acknowledge(),
                Kind::After(test) => test.acknowledge(),
            }
        }
    }

    pub(super) fn applies(&self, stage: Stage) -> bool {
        self.step.is_none_or(|step| step == stage.step)
    }

    pub(super) fn begin_stage(&mut self, weight: WeightBps, past: &DecayedHistogram) {
        for test in &mut self.tests {
            match &mut test.kind {
                Kind::Rate(test) => test.begin_stage(),
                Kind::Latency(test) => test.begin_stage(),
                Kind::Limit(test) => test.begin_stage(),
                Kind::Gauge(test) => test.begin_stage(),
                Kind::After(test) => test.begin_stage(weight, past),
            }
        }
    }

    pub(super) fn begin_retreat(&mut self) {
        for test in &mut self.tests {
            match &mut test.kind {
                Kind::Limit(test) => test.begin_retreat(),
                Kind::Gauge(test) => test.begin_retreat(),
                Kind::Rate(_) | Kind::Latency(_) | Kind::After(_) => {}
            }
        }
    }

    /// `stage_weight`: the weight of the running stage, if the rule belongs to one that runs.
    pub(super) fn observe(&mut self, feed: &Feed<'_>, past: &DecayedHistogram, stage_weight: Option<WeightBps>, ln_pass: f64) {
        let in_stage = stage_weight.is_some();
        for test in &mut self.tests {
            match &mut test.kind {
                Kind::Rate(test) => test.observe(feed, in_stage, ln_pass),
                Kind::Latency(latency) => latency.observe(feed, past, in_stage, ln_pass, test.ln_threshold),
                Kind::Limit(test) => test.observe(feed, in_stage, ln_pass),
                // An idle stable next to a canary that has everything uses nothing, and that is no measure.
                Kind::Gauge(test) if test.is_versus_stable() && !feed.is_beside => {}
                Kind::Gauge(test) => test.observe(feed.observation, in_stage, ln_pass),
                Kind::After(test) => test.observe(feed, stage_weight),
            }
        }
    }

    /// What the data says at present; `None` if nothing of it applies in this stage.
    pub(super) fn verdict(&self, stage: Stage, sights: &Sights) -> Option<Verdict> {
        if self.unusable.is_some() {
            return Some(Verdict::Unknown);
        }
        let verdict = self.tests.iter().filter_map(|test| test.verdict(stage)).max_by_key(|verdict| verdict.badness())?;
        let is_proven = matches!(verdict, Verdict::Fail | Verdict::Environment);
        // What was seen before the source fell silent says nothing about now; but harm that is proven stays proven.
        if !is_proven && sights.gap(self.criterion.metric).is_some() {
            return Some(Verdict::Unknown);
        }
        Some(verdict)
    }

    /// The verdict in words. Building them costs more than the verdict.
    pub(super) fn assess(&self, stage: Stage, evidence: &Evidence, sights: &Sights) -> Option<CriterionAssessment> {
        let verdict = self.verdict(stage, sights)?;
        let criterion = &self.criterion;
        let mut assessment = CriterionAssessment {
            name: criterion.name.clone(),
            metric: criterion.metric,
            verdict,
            canary: None,
            stable: None,
            on_breach: criterion.on_breach,
            severity: criterion.severity,
            pressure: None,
            evidence: None,
            text: String::new(),
        };
        if let Some(reason) = &self.unusable {
            assessment.text = format!("this cannot be judged: {reason}");
            return Some(assessment);
        }
        let mut texts = Vec::new();
        let mut pressure: Option<f64> = None;
        for test in &self.tests {
            let Some(own) = test.verdict(stage) else { continue };
            let evidence = Evidence { ln_threshold: test.ln_threshold, ln_share: test.ln_share, ..*evidence };
            let [canary, stable] = test.values(stage);
            assessment.canary = assessment.canary.or(canary);
            assessment.stable = assessment.stable.or(stable);
            if own == verdict {
                texts.push(test.text(&evidence, own, stage));
            }
            let level = test.level(&evidence);
            if assessment.evidence.is_none_or(|known| known.harm < level.harm) {
                assessment.evidence = Some(level);
            }
            let near = (test.ln_e() / test.ln_threshold).clamp(0.0, 1.0);
            let near = match own {
                Verdict::Pass => 0.0,
                Verdict::Unknown => continue,
                _ => near,
            };
            pressure = Some(pressure.map_or(near, |most: f64| most.max(near)));
        }
        texts.dedup();
        assessment.pressure = pressure;
        assessment.text = texts.join("; ");
        if verdict == Verdict::Unknown
            && let Some(gap) = sights.gap(criterion.metric)
        {
            (assessment.pressure, assessment.text) = (None, gap.to_string());
        }
        Some(assessment)
    }

    /// During a retreat: whether stable keeps this rule's absolute limits.
    pub(super) fn stable_keeps(&self) -> Option<bool> {
        let kept = self.tests.iter().filter_map(|test| match &test.kind {
            Kind::Limit(test) => test.stable_keeps(),
            Kind::Gauge(test) => test.stable_keeps(),
            Kind::Rate(_) | Kind::Latency(_) | Kind::After(_) => None,
        });
        kept.reduce(|all, one| all && one)
    }

    /// What stable shows of an absolute limit that it breaks itself.
    pub(super) fn stable_trouble(&self, alpha: f64) -> Option<String> {
        self.tests.iter().find_map(|test| match &test.kind {
            Kind::Limit(limit) => limit.stable_breaks().then(|| limit.stable_text(alpha)),
            _ => None,
        })
    }

    /// Whether stable was seen too little for what is left of the criterion once stable has no traffic.
    pub(super) fn is_blind(&self) -> bool {
        self.tests.iter().any(|test| matches!(&test.kind, Kind::After(after) if after.is_blind()))
    }

    /// What each test is, for the alarm's default shares.
    pub(super) fn families(&self) -> impl Iterator<Item = Family> + '_ {
        let is_external = self.criterion.metric.external().is_some();
        self.tests.iter().map(move |test| match &test.kind {
            // The shares of errors and limits are for what Serin sees itself.
            Kind::Rate(_) | Kind::Limit(_) if is_external => Family::Other,
            Kind::Rate(_) => Family::Errors,
            Kind::Latency(_) => Family::Latency,
            Kind::Limit(_) => Family::Limits,
            Kind::After(_) => Family::After,
            Kind::Gauge(_) => Family::Other,
        })
    }
}

impl Test {
    pub(super) fn ln_e(&self) -> f64 {
        match &self.kind {
            Kind::Rate(test) => test.ln_e(),
            Kind::Latency(test) => test.ln_e(),
            Kind::Limit(test) => test.ln_e(),
            Kind::Gauge(test) => test.ln_e(),
            Kind::After(test) => test.ln_e(),
        }
    }

    fn level(&self, evidence: &Evidence) -> EvidenceLevel {
        let level = evidence.level(self.ln_e());
        match &self.kind {
            Kind::Rate(test) => test.level(level, evidence),
            Kind::Latency(test) => EvidenceLevel { requests_to_pass: test.requests_to_pass(evidence.ln_pass), ..level },
            Kind::Limit(test) => EvidenceLevel { requests_to_pass: test.requests_to_pass(evidence.ln_pass), ..level },
            Kind::Gauge(_) | Kind::After(_) => level,
        }
    }

    /// `None` if the test says nothing at this weight. Evidence against the canary stands whatever the weight is now.
    fn verdict(&self, stage: Stage) -> Option<Verdict> {
        let ln_threshold = self.ln_threshold;
        let (verdict, is_versus_stable) = match &self.kind {
            Kind::Rate(test) => (test.verdict(ln_threshold), true),
            Kind::Latency(test) => (test.verdict(ln_threshold), true),
            Kind::Limit(test) => (test.verdict(ln_threshold, stage.weight), false),
            Kind::Gauge(test) => (test.verdict(ln_threshold, stage.weight), test.is_versus_stable()),
            Kind::After(test) => return test.verdict(ln_threshold, stage.weight),
        };
        let applies = !is_versus_stable || (!stage.weight.is_zero() && stage.weight != WeightBps::FULL);
        (applies || verdict == Verdict::Fail).then_some(verdict)
    }

    fn values(&self, stage: Stage) -> [Option<f64>; 2] {
        match &self.kind {
            Kind::Rate(test) => test.values(),
            Kind::Latency(_) | Kind::After(_) => [None, None],
            Kind::Limit(test) => test.values(stage.weight),
            Kind::Gauge(test) => test.values(),
        }
    }

    fn text(&self, evidence: &Evidence, verdict: Verdict, stage: Stage) -> String {
        match &self.kind {
            Kind::Rate(test) => test.text(evidence, verdict),
            Kind::Latency(test) => test.text(evidence, verdict),
            Kind::Limit(test) => test.text(evidence, verdict, stage.weight),
            Kind::Gauge(test) => test.text(evidence, verdict),
            Kind::After(test) => test.text(evidence, verdict),
        }
    }
}

fn kinds(criterion: &Criterion) -> Result<Vec<Kind>, ConfigError> {
    let mut kinds = Vec::new();
    let is_gauge = criterion.metric.is_gauge();
    if let Some(max) = criterion.max {
        kinds.push(match is_gauge {
            true => Kind::Gauge(Box::new(GaugeTest::new(criterion, Bound::AtMost(max))?)),
            false => Kind::Limit(Box::new(LimitTest::new(criterion.metric, max)?)),
        });
    }
    if let Some(min) = criterion.min
        && is_gauge
    {
        kinds.push(Kind::Gauge(Box::new(GaugeTest::new(criterion, Bound::AtLeast(min))?)));
    }
    let Some(versus) = criterion.versus_stable else { return Ok(kinds) };
    let limits = match (versus.combine, versus.ratio, versus.increase) {
        (Combine::Either, Some(ratio), Some(increase)) => vec![(Some(ratio), None), (None, Some(increase))],
        (_, None, None) => vec![],
        (_, ratio, increase) => vec![(ratio, increase)],
    };
    if !is_gauge && !limits.is_empty() {
        kinds.push(Kind::After(Box::new(AfterTest::new(criterion, versus))));
    }
    for (ratio, increase) in limits {
        kinds.push(match criterion.metric {
            _ if is_gauge => Kind::Gauge(Box::new(GaugeTest::new(criterion, Bound::Stable { ratio, increase })?)),
            Metric::Latency(_) | Metric::LatencyAny => Kind::Latency(Box::new(LatencyTest::new(criterion, ratio, increase)?)),
            _ => Kind::Rate(Box::new(RateTest::new(criterion, ratio, increase)?)),
        });
    }
    Ok(kinds)
}
