//! The judgement of Kayenta's NetflixACAJudge-v1.0, for people who bring their canary configs along (ANALYSIS 1.3).
//!
//! A compatibility judge, not a recommended one: it does not correct for repeated looks, and a few errors more among many
//! zeros leave its median shift at 0. Two deviations, both for the better: the shift interval is selected exactly instead of
//! searched with an absolute tolerance, and two different constants are told apart by fixed normal scores of relative size 1e-5
//! instead of random noise, so that the same data always get the same judgement.

use serde::{Deserialize, Serialize};

use crate::config::ConfigError;
use crate::mann_whitney::{common_language_effect, shift};
use crate::special::normal_quantile;

/// Two-sided confidence of the shift interval.
const CONFIDENCE: f64 = 0.98;
/// The interval has to clear this part of the estimate.
const TOLERATED_PART: f64 = 0.25;
/// Factor of the interquartile range beyond which values are outliers.
const OUTLIER_FACTOR: f64 = 3.0;
/// Relative size of the scores that stand in for noise on constants.
const SCORE_SIZE: f64 = 1e-5;

/// Which changes of a metric count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Higher is worse.
    Increase,
    /// Lower is worse.
    Decrease,
    /// Any change.
    Either,
}

/// What becomes of missing values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NanStrategy {
    /// Left out; an empty array is no data.
    Remove,
    /// Taken as 0; an empty array passes.
    Replace,
}

/// How the size of an effect is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EffectMeasure {
    /// Quotient of the means; no value if either is 0.
    MeanRatio,
    /// Probability that a value of the experiment is above one of the control.
    CommonLanguage,
}

/// How one metric is classified. Limits are in units of the effect measure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MetricRule {
    /// Which changes count.
    pub direction: Direction,
    /// What becomes of missing values.
    pub nan: NanStrategy,
    /// Whether values far outside the quartiles are left out.
    pub remove_outliers: bool,
    /// How the effect is measured.
    pub effect: EffectMeasure,
    /// Effects below this are not high.
    pub allowed_increase: f64,
    /// Effects above this are not low.
    pub allowed_decrease: f64,
    /// Whether failing makes the whole score 0.
    pub critical: bool,
    /// For critical metrics: effects below this are not critically high.
    pub critical_increase: f64,
    /// For critical metrics: effects above this are not critically low.
    pub critical_decrease: f64,
    /// Whether missing data counts as a failure.
    pub must_have_data: bool,
    /// Whether the metric is left out of the score.
    pub muted: bool,
}

impl MetricRule {
    /// The defaults of the judge for this direction and measure.
    #[must_use]
    pub fn new(direction: Direction, effect: EffectMeasure) -> Self {
        let limit = match effect {
            EffectMeasure::MeanRatio => 1.0,
            EffectMeasure::CommonLanguage => 0.5,
        };
        Self {
            direction,
            nan: NanStrategy::Remove,
            remove_outliers: false,
            effect,
            allowed_increase: limit,
            allowed_decrease: limit,
            critical: false,
            critical_increase: limit,
            critical_decrease: limit,
            must_have_data: false,
            muted: false,
        }
    }
}

/// The class of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// No relevant difference.
    Pass,
    /// The experiment is higher.
    High,
    /// The experiment is lower.
    Low,
    /// Nothing to compare.
    Nodata,
    /// Nothing to compare where data was demanded.
    NodataFailMetric,
}

/// The judgement of one metric.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Classification {
    /// Its class.
    pub class: Class,
    /// Whether it makes the whole score 0.
    pub critical: bool,
}

/// Classifies one metric: `experiment` is the canary, `control` the baseline, one value per step, NaN for missing ones.
///
/// # Errors
/// If an array is longer than two weeks of minutes or holds an infinity.
pub fn classify(experiment: &[f64], control: &[f64], rule: &MetricRule) -> Result<Classification, ConfigError> {
    let pass = Classification { class: Class::Pass, critical: false };
    let (mut x, mut y) = (prepared(experiment, rule), prepared(control, rule));
    if x.is_empty() || y.is_empty() {
        let class = match (rule.nan, rule.must_have_data && !rule.critical) {
            (NanStrategy::Replace, _) => return Ok(pass),
            (NanStrategy::Remove, true) => Class::NodataFailMetric,
            (NanStrategy::Remove, false) => Class::Nodata,
        };
        return Ok(Classification { class, critical: rule.critical });
    }
    if x == y {
        return Ok(pass);
    }
    if let (Some(a), Some(b)) = (constant(&x), constant(&y)) {
        if a == b {
            return Ok(pass);
        }
        add_scores(&mut x);
        add_scores(&mut y);
    }
    let shift = shift(&x, &y, CONFIDENCE)?;
    let effect = effect(&x, &y, rule.effect)?;
    let clearance = TOLERATED_PART * shift.estimate.abs();
    let at_least = |limit: f64| effect.is_none_or(|effect| effect >= limit);
    let at_most = |limit: f64| effect.is_none_or(|effect| effect <= limit);
    if rule.direction != Direction::Decrease && shift.lower > clearance && at_least(rule.allowed_increase) {
        return Ok(Classification { class: Class::High, critical: rule.critical && at_least(rule.critical_increase) });
    }
    if rule.direction != Direction::Increase && shift.upper < -clearance && at_most(rule.allowed_decrease) {
        return Ok(Classification { class: Class::Low, critical: rule.critical && at_most(rule.critical_decrease) });
    }
    Ok(pass)
}

/// A metric's judgement within its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scored<'a> {
    /// The group.
    pub group: &'a str,
    /// The metric's class.
    pub class: Class,
    /// Whether it makes the whole score 0.
    pub critical: bool,
    /// Whether it is left out.
    pub muted: bool,
}

/// The score of a canary from 0 to 100. `weights` are percents by group; groups without share what is left of 100 equally.
///
/// A group scores `100 pass/(pass + high + low + nodata that fails)`, 100 if that is nothing. Any critical metric, or half of the
/// metrics without data, makes it 0.
#[must_use]
pub fn score(metrics: &[Scored<'_>], weights: &[(&str, f64)]) -> f64 {
    let heard: Vec<&Scored<'_>> = metrics.iter().filter(|metric| !metric.muted).collect();
    let missing = heard.iter().filter(|metric| metric.class == Class::Nodata).count();
    let critical = heard.iter().any(|metric| metric.critical && metric.class != Class::Pass);
    if critical || (!heard.is_empty() && 2 * missing >= heard.len()) {
        return 0.0;
    }
    let mut groups: Vec<&str> = weights.iter().map(|(group, _)| *group).chain(heard.iter().map(|metric| metric.group)).collect();
    groups.sort_unstable();
    groups.dedup();
    let weighted: f64 = weights.iter().map(|(_, weight)| weight).sum();
    let unweighted = groups.iter().filter(|group| weights.iter().all(|(name, _)| name != *group)).count();
    let rest = (100.0 - weighted).max(0.0) / unweighted.max(1) as f64;
    let part = |group: &&str| {
        let weight = weights.iter().find(|(name, _)| name == group).map_or(rest, |(_, weight)| *weight);
        weight / 100.0 * group_score(heard.iter().filter(|metric| metric.group == *group).map(|metric| metric.class))
    };
    groups.iter().map(part).sum()
}

/// What a score means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScoreVerdict {
    /// At least the pass mark.
    Pass,
    /// Between the marks.
    Marginal,
    /// Below the marginal mark.
    Fail,
}

/// The verdict on a series of judgements: each has to reach `marginal` and the last one `pass`. `None` without any.
#[must_use]
pub fn verdict(scores: &[f64], pass: f64, marginal: f64) -> Option<ScoreVerdict> {
    let last = scores.last()?;
    let all_marginal = scores.iter().all(|score| *score >= marginal);
    Some(match (all_marginal, *last >= pass) {
        (false, _) => ScoreVerdict::Fail,
        (true, true) => ScoreVerdict::Pass,
        (true, false) => ScoreVerdict::Marginal,
    })
}

fn group_score(classes: impl Iterator<Item = Class>) -> f64 {
    let (mut passed, mut counted) = (0_u32, 0_u32);
    for class in classes.filter(|class| *class != Class::Nodata) {
        counted += 1;
        passed += u32::from(class == Class::Pass);
    }
    if counted == 0 { 100.0 } else { 100.0 * f64::from(passed) / f64::from(counted) }
}

/// NaN and outliers treated, ascending.
fn prepared(values: &[f64], rule: &MetricRule) -> Vec<f64> {
    let mut kept: Vec<f64> = match rule.nan {
        NanStrategy::Remove => values.iter().copied().filter(|value| !value.is_nan()).collect(),
        NanStrategy::Replace => values.iter().map(|value| if value.is_nan() { 0.0 } else { *value }).collect(),
    };
    kept.sort_unstable_by(f64::total_cmp);
    if !rule.remove_outliers || kept.is_empty() {
        return kept;
    }
    let (q1, q3) = (percentile(&kept, 0.25), percentile(&kept, 0.75));
    let reach = OUTLIER_FACTOR * (q3 - q1);
    let low = percentile(&kept, 0.01).min(q1 - reach);
    let high = percentile(&kept, 0.99).max(q3 + reach);
    kept.retain(|value| (low..=high).contains(value));
    kept
}

/// The percentile of sorted values, linear between ranks `p (n + 1)`.
fn percentile(sorted: &[f64], p: f64) -> f64 {
    let rank = (p * (sorted.len() as f64 + 1.0)).clamp(1.0, sorted.len() as f64);
    let below = crate::decayed::whole_us(rank.floor());
    let index = usize::try_from(below).unwrap_or(1) - 1;
    let next = sorted.get(index + 1).unwrap_or(&sorted[index]);
    sorted[index] + rank.fract() * (next - sorted[index])
}

fn constant(values: &[f64]) -> Option<f64> {
    values.first().copied().filter(|first| values.iter().all(|value| value == first))
}

/// Spreads equal values by normal scores of relative size 1e-5.
fn add_scores(values: &mut [f64]) {
    let count = values.len() as f64;
    for (index, value) in values.iter_mut().enumerate() {
        *value += SCORE_SIZE * value.abs() * normal_quantile((index as f64 + 0.5) / count);
    }
}

fn effect(x: &[f64], y: &[f64], measure: EffectMeasure) -> Result<Option<f64>, ConfigError> {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    match measure {
        EffectMeasure::MeanRatio => {
            let (x, y) = (mean(x), mean(y));
            Ok((x != 0.0 && y != 0.0).then(|| x / y))
        }
        EffectMeasure::CommonLanguage => common_language_effect(x, y).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(level: f64) -> Vec<f64> {
        (0..20).map(|i| level + f64::from(i % 5)).collect()
    }

    fn class(experiment: &[f64], control: &[f64], rule: MetricRule) -> Class {
        classify(experiment, control, &rule).unwrap().class
    }

    #[test]
    fn differences_count_in_their_direction() {
        let rule = |direction| MetricRule::new(direction, EffectMeasure::MeanRatio);
        for (direction, higher, lower) in [
            (Direction::Increase, Class::High, Class::Pass),
            (Direction::Decrease, Class::Pass, Class::Low),
            (Direction::Either, Class::High, Class::Low),
        ] {
            assert_eq!(class(&series(20.0), &series(10.0), rule(direction)), higher);
            assert_eq!(class(&series(10.0), &series(20.0), rule(direction)), lower);
            assert_eq!(class(&series(10.0), &series(10.0), rule(direction)), Class::Pass);
        }
    }

    #[test]
    fn small_effects_and_criticality() {
        let mut rule = MetricRule::new(Direction::Increase, EffectMeasure::MeanRatio);
        rule.allowed_increase = 2.0;
        assert_eq!(class(&series(20.0), &series(12.0), rule), Class::Pass);
        rule.allowed_increase = 1.2;
        rule.critical = true;
        rule.critical_increase = 2.0;
        assert_eq!(classify(&series(20.0), &series(12.0), &rule).unwrap(), Classification { class: Class::High, critical: false });
        rule.critical_increase = 1.2;
        assert!(classify(&series(20.0), &series(12.0), &rule).unwrap().critical);
        let cles = MetricRule::new(Direction::Increase, EffectMeasure::CommonLanguage);
        assert_eq!(class(&series(20.0), &series(12.0), cles), Class::High);
    }

    #[test]
    fn missing_and_constant_data() {
        let mut rule = MetricRule::new(Direction::Increase, EffectMeasure::MeanRatio);
        let nothing = [f64::NAN, f64::NAN];
        assert_eq!(class(&nothing, &series(1.0), rule), Class::Nodata);
        rule.must_have_data = true;
        assert_eq!(class(&nothing, &series(1.0), rule), Class::NodataFailMetric);
        rule.nan = NanStrategy::Replace;
        assert_eq!(class(&[], &series(1.0), rule), Class::Pass);
        assert_eq!(class(&[5.0; 12], &[5.0; 9], rule), Class::Pass);
        assert_eq!(class(&[6.0; 12], &[5.0; 12], rule), Class::High);
        // Four times the errors, but mostly none: the median shift is 0. The known weakness of this judge.
        let sparse: Vec<f64> = (0..30).map(|i| if i % 4 == 0 { 4.0 } else { 0.0 }).collect();
        let base: Vec<f64> = (0..30).map(|i| if i % 4 == 0 { 1.0 } else { 0.0 }).collect();
        assert_eq!(class(&sparse, &base, rule), Class::Pass);
    }

    #[test]
    fn outliers_are_removed_on_request() {
        let mut rule = MetricRule::new(Direction::Increase, EffectMeasure::MeanRatio);
        rule.remove_outliers = true;
        let mut values = series(10.0).repeat(20);
        values.push(1e9);
        assert_eq!(prepared(&values, &rule).len(), 400);
        rule.remove_outliers = false;
        assert_eq!(prepared(&values, &rule).len(), 401);
    }

    #[test]
    fn scores_weigh_groups_and_stop_at_critical_or_missing_metrics() {
        let metric = |group, class| Scored { group, class, critical: false, muted: false };
        let metrics = [metric("errors", Class::Pass), metric("errors", Class::High), metric("latency", Class::Pass)];
        assert_eq!(score(&metrics, &[("errors", 60.0)]), 70.0);
        assert_eq!(score(&metrics, &[]), 75.0);
        let mut critical = metrics;
        critical[1].critical = true;
        assert_eq!(score(&critical, &[]), 0.0);
        critical[1].muted = true;
        assert_eq!(score(&critical, &[]), 100.0);
        assert_eq!(score(&[metric("a", Class::Nodata), metric("a", Class::Pass)], &[]), 0.0);
        assert_eq!(score(&[metric("a", Class::NodataFailMetric), metric("a", Class::Pass)], &[]), 50.0);
    }

    #[test]
    fn every_judgement_has_to_be_marginal_and_the_last_a_pass() {
        assert_eq!(verdict(&[80.0, 96.0], 95.0, 75.0), Some(ScoreVerdict::Pass));
        assert_eq!(verdict(&[70.0, 96.0], 95.0, 75.0), Some(ScoreVerdict::Fail));
        assert_eq!(verdict(&[80.0, 80.0], 95.0, 75.0), Some(ScoreVerdict::Marginal));
        assert_eq!(verdict(&[], 95.0, 75.0), None);
    }
}
