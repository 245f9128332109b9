//! Kayenta's judge on the error percentage by minute, against a baseline of the canary's size, every 5 minutes over all minutes so far
//! (ANALYSIS 1.3). A high metric is a rollback: with one metric in one group that is a score of 0.

use serin_stats::kayenta::{Class, Direction, EffectMeasure, MetricRule, classify};
use serin_stats::{ArmCounts, Share};

use super::Rule;
use super::window::error_rate;
use crate::random::Random;
use crate::traffic::{Rates, Sampler, Second};

/// Seconds between judgements.
const JUDGED_EVERY_S: u32 = 300;

/// The rule with its own baseline.
#[derive(Debug, Clone)]
pub(crate) struct Kayenta {
    baseline: Sampler,
    random: Random,
    minute: ArmCounts,
    series: [Vec<f64>; 2],
}

impl Kayenta {
    /// With a baseline that gets as many requests as the canary and fails as often as stable.
    pub(crate) fn new(rates: &Rates, random: &mut Random) -> anyhow::Result<Self> {
        // The sampler's stable arm at weight 0 over a minute is the baseline.
        let minute = Rates { rps: 60.0 * rates.rps * rates.weight, weight: Share::NONE.get(), ..*rates };
        Ok(Self { baseline: Sampler::new(minute)?, random: random.fork(), minute: ArmCounts::default(), series: [Vec::new(), Vec::new()] })
    }
}

impl Rule for Kayenta {
    fn observe(&mut self, second: &Second<'_>) -> Option<f64> {
        self.minute.add(second.canary);
        if !second.end_s.is_multiple_of(60) {
            return None;
        }
        let canary = std::mem::take(&mut self.minute);
        let (_, baseline) = self.baseline.draw(&mut self.random);
        for (series, counts) in self.series.iter_mut().zip([canary, baseline]) {
            series.push(error_rate(counts).map_or(f64::NAN, |rate| 100.0 * rate));
        }
        let due = second.end_s.is_multiple_of(JUDGED_EVERY_S) && is_high(&self.series);
        due.then(|| f64::from(second.end_s))
    }
}

/// Whether the judge calls the first series high; a series that it refuses is no evidence.
pub(super) fn is_high([canary, baseline]: &[Vec<f64>; 2]) -> bool {
    let rule = MetricRule::new(Direction::Increase, EffectMeasure::MeanRatio);
    classify(canary, baseline, &rule).is_ok_and(|found| found.class == Class::High)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::window::tests::decision;

    #[test]
    fn an_outage_is_found_at_the_first_judgement_and_sparse_errors_never() {
        let rates = Rates { rps: 100.0, weight: 0.05, stable_error: 0.01, canary_error: 1.0 };
        let mut random = Random::new(1, 0, 0, 0);
        let mut rule = Kayenta::new(&rates, &mut random).unwrap();
        assert_eq!(decision(&mut rule, |_| (5, 5, 95, 1)), Some(300.0));
        // An error in one minute of three: the median shift stays 0, whatever stable does.
        let quiet = Rates { stable_error: 0.0, ..rates };
        let mut rule = Kayenta::new(&quiet, &mut random).unwrap();
        assert_eq!(decision(&mut rule, |start_s| (5, u64::from(start_s.is_multiple_of(180)), 95, 0)), None);
    }
}
