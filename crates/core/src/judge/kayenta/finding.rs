//! What a judgement finds about one criterion, and how people read it.

use serin_stats::kayenta::{Class, Direction, EffectMeasure, MetricRule, classify};

use crate::{
    Unit, format_value,
    plan::{Criterion, Metric, VersusStable},
};

/// Fewest values per arm that are compared. With five against five a canary that does not differ is High at most once in 252
/// judgements.
pub const LEAST_VALUES: usize = 5;

/// A criterion at the last judgement.
#[derive(Debug, Clone, Default)]
pub(super) struct Finding {
    pub(super) outcome: Outcome,
    /// Mean of the canary's values in the metric's unit; `None` without any.
    pub(super) canary: Option<f64>,
    /// The same of stable.
    pub(super) stable: Option<f64>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(super) enum Outcome {
    /// There was no judgement so far.
    #[default]
    NotYet,
    /// At least one arm has no value.
    NoData,
    /// At least one arm has fewer values than are compared; how many.
    TooFew { have: usize },
    /// There are values that cannot be compared; why.
    Unfit(String),
    /// Pass, High or Low.
    Classified(Class),
}

impl Finding {
    /// Takes the means of values, NaN for missing ones. Gives the number of values of the arm that has fewer.
    pub(super) fn look(&mut self, canary: &[f64], stable: &[f64]) -> usize {
        let mut have = usize::MAX;
        for (slot, values) in [(&mut self.canary, canary), (&mut self.stable, stable)] {
            let (sum, count) =
                values.iter().filter(|value| !value.is_nan()).fold((0.0, 0_usize), |(sum, count), value| (sum + value, count + 1));
            *slot = (count > 0).then(|| sum / count as f64);
            have = have.min(count);
        }
        have
    }

    /// Judges by these values, NaN for missing ones.
    pub(super) fn classify(&mut self, criterion: &Criterion, canary: &[f64], stable: &[f64]) {
        let have = self.look(canary, stable);
        self.outcome = match criterion.versus_stable {
            None => Outcome::Unfit("this judge compares with stable, and the criterion has no limit against it".to_owned()),
            Some(_) if have == 0 => Outcome::NoData,
            Some(_) if have < LEAST_VALUES => Outcome::TooFew { have },
            Some(versus) => match classify(canary, stable, &rule(versus)) {
                Ok(found) => Outcome::Classified(found.class),
                Err(error) => Outcome::Unfit(error.to_string()),
            },
        };
    }

    /// Whether the canary differs from stable in a way that counts.
    pub(super) fn differs(&self) -> bool {
        matches!(self.outcome, Outcome::Classified(class) if class != Class::Pass)
    }

    /// The finding with its numbers.
    pub(super) fn words(&self, metric: Metric) -> String {
        let unit = metric.unit();
        match (&self.outcome, self.canary, self.stable) {
            (Outcome::NotYet, ..) => "not judged so far".to_owned(),
            (Outcome::Unfit(why), ..) => why.clone(),
            (Outcome::TooFew { have }, ..) => format!("{have} of the {LEAST_VALUES} values per version that are needed to compare"),
            (_, Some(canary), Some(stable)) => {
                let values = format!("{} against {}", format_value(canary, unit), format_value(stable, unit));
                let class = match &self.outcome {
                    Outcome::Classified(Class::High) => "High",
                    Outcome::Classified(Class::Low) => "Low",
                    _ => return format!("{values}, Pass"),
                };
                format!("{values}, {class}: {}", difference(canary, stable, unit))
            }
            (_, None, Some(_)) => format!("no data about the canary's {}", metric.name()),
            (_, Some(_), None) => format!("no data about stable's {}", metric.name()),
            (_, None, None) => format!("no data about {} in either version", metric.name()),
        }
    }
}

/// What counts of the metric's changes, see the [judge's](super) head.
fn rule(versus: VersusStable) -> MetricRule {
    let rises = versus.ratio.is_some() || versus.increase.is_some() || versus.decrease.is_none();
    let direction = match (rises, versus.decrease.is_some()) {
        (true, false) => Direction::Increase,
        (false, _) => Direction::Decrease,
        (true, true) => Direction::Either,
    };
    let mut rule = MetricRule::new(direction, EffectMeasure::MeanRatio);
    rule.allowed_increase = versus.ratio.unwrap_or(rule.allowed_increase);
    rule.allowed_decrease = versus.decrease.map_or(rule.allowed_decrease, |decrease| 1.0 - decrease);
    rule
}

/// `+3.1 percentage points, 2.4×`.
fn difference(canary: f64, stable: f64, unit: Unit) -> String {
    let by = canary - stable;
    let sign = if by < 0.0 { '-' } else { '+' };
    let size = match unit {
        Unit::Share | Unit::CpuPercent => format!("{} percentage points", format_value(by.abs(), unit).trim_end_matches(" %")),
        _ => format_value(by.abs(), unit),
    };
    if stable > 0.0 { format!("{sign}{size}, {}×", format_value(canary / stable, Unit::Count)) } else { format!("{sign}{size}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_counts_follows_from_the_limits_against_stable() {
        for (ratio, increase, decrease, expected) in [
            (None, None, None, (Direction::Increase, 1.0, 1.0)),
            (Some(1.5), None, None, (Direction::Increase, 1.5, 1.0)),
            (None, Some(0.01), None, (Direction::Increase, 1.0, 1.0)),
            (None, None, Some(0.25), (Direction::Decrease, 1.0, 0.75)),
            (Some(2.0), None, Some(0.25), (Direction::Either, 2.0, 0.75)),
        ] {
            let rule = rule(VersusStable { ratio, increase, decrease, combine: crate::plan::Combine::Both });
            assert_eq!((rule.direction, rule.allowed_increase, rule.allowed_decrease), expected);
        }
    }

    #[test]
    fn findings_read_as_sentences() {
        let high = Outcome::Classified(Class::High);
        for (metric, outcome, canary, stable, expected) in [
            (Metric::ErrorRate, high.clone(), Some(0.053), Some(0.022), "5.3 % against 2.2 %, High: +3.1 percentage points, 2.41×"),
            (Metric::ErrorRate, high.clone(), Some(0.05), Some(0.0), "5 % against 0 %, High: +5 percentage points"),
            (Metric::Cpu, Outcome::Classified(Class::Low), Some(30.0), Some(40.0), "30 % against 40 %, Low: -10 percentage points, 0.75×"),
            (Metric::Memory, high, Some(2097152.0), Some(1048576.0), "2 MiB against 1 MiB, High: +1 MiB, 2×"),
            (Metric::ErrorRate, Outcome::Classified(Class::Pass), Some(0.01), Some(0.02), "1 % against 2 %, Pass"),
            (Metric::ErrorRate, Outcome::NoData, None, Some(0.02), "no data about the canary's error-rate"),
            (Metric::ErrorRate, Outcome::NoData, Some(0.02), None, "no data about stable's error-rate"),
            (Metric::ErrorRate, Outcome::NoData, None, None, "no data about error-rate in either version"),
            (Metric::Cpu, Outcome::TooFew { have: 4 }, Some(1.0), Some(1.0), "4 of the 5 values per version that are needed to compare"),
        ] {
            assert_eq!(Finding { outcome, canary, stable }.words(metric), expected);
        }
    }
}
