//! One look at one metric: the questions it needs, and what the answers amount to.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serin_core::{
    human_duration,
    plan::MetricName,
    traffic::{
        Arm, Gap, GapKind, Measured, Reading,
        align::{Aligner, Part, Series},
    },
};
use serin_spec::validated::{Ask, Measures, PerArm};

use super::MetricSource;

/// How far back counters are asked for: several scrapes of even a slow job, so that one that is late is not a gap.
pub(super) const REACH: Duration = Duration::from_mins(5);
/// Counters without a new sample for this many looks are stale.
const STALE_AFTER_LOOKS: u32 = 3;
/// And not before this time: the usual interval of scrapes is up to a minute.
const STALE_AFTER: Duration = Duration::from_secs(150);

/// What is asked for one metric.
#[derive(Debug, Clone)]
pub(super) struct Question {
    pub(super) metric: MetricName,
    pub(super) source: String,
    pub(super) ask: Ask,
}

/// Everything that is asked for metrics.
pub(super) fn questions(measures: &Measures) -> impl Iterator<Item = Question> + '_ {
    measures.queries.iter().map(|query| Question { metric: query.metric, source: query.source.clone(), ask: query.ask.clone() })
}

/// A metric that is looked at again and again.
pub(super) struct Look {
    question: Question,
    source: Arc<dyn MetricSource>,
    aligner: Aligner,
    patience: Duration,
    /// When the counters last had something new.
    news_at: Instant,
}

impl Look {
    pub(super) fn new(question: Question, source: Arc<dyn MetricSource>, interval: Duration) -> Self {
        let patience = interval.saturating_mul(STALE_AFTER_LOOKS).max(STALE_AFTER);
        Self { question, source, aligner: Aligner::default(), patience, news_at: Instant::now() }
    }

    /// Asks once. More than one reading belongs together, in their order.
    pub(super) async fn take(&mut self) -> Vec<Measured> {
        let readings = match self.question.ask.clone() {
            Ask::Ratio { all, part, part_is_good } => match self.counts(&all, &part, part_is_good).await {
                Ok(readings) => readings,
                Err(gap) => vec![Reading::Missing(gap)],
            },
            Ask::Value(query) => vec![self.values(&query).await],
        };
        readings.into_iter().map(|reading| Measured { metric: self.question.metric, reading }).collect()
    }

    async fn counts(&mut self, all: &PerArm, part: &PerArm, part_is_good: bool) -> Result<Vec<Reading>, Gap> {
        let mut series = Vec::new();
        let mut empty = None;
        // Totals first: see the aligner.
        for (what, selectors) in [(Part::All, all), (if part_is_good { Part::Good } else { Part::Bad }, part)] {
            for (arm, selector) in [(Arm::Stable, selectors.stable.as_deref()), (Arm::Canary, Some(selectors.canary.as_str()))] {
                let Some(selector) = selector else { continue };
                let counters = self.source.counters(selector, REACH).await.map_err(|gap| of_arm(arm, gap))?;
                // Whoever has everything bad never counted anything good, but stable surely did.
                let reference = if selectors.stable.is_some() { Arm::Stable } else { Arm::Canary };
                let must_be = what == Part::All || (what == Part::Good && arm == reference);
                if must_be && counters.is_empty() {
                    let text = format!("{arm}: no such series: {selector}");
                    empty = Some(Gap { kind: GapKind::Empty, text });
                }
                series.extend(counters.into_iter().map(|counter| Series {
                    arm,
                    part: what,
                    id: counter.id,
                    target: counter.target,
                    samples: counter.samples,
                }));
            }
        }
        let taken = self.aligner.take(&series).map_err(|error| Gap { kind: GapKind::Malformed, text: error.to_string() })?;
        let now = Instant::now();
        if taken.is_some() {
            self.news_at = now;
        }
        // Zeros say that the source answered; what is missing besides is said after them.
        let [stable, canary] = taken.unwrap_or_default();
        // What is about both versions together, stable shows as well: nobody knows whose it is.
        let stable = if all.stable.is_none() { canary } else { stable };
        let mut readings = vec![Reading::Counts([stable, canary])];
        readings.extend(empty.or_else(|| self.staleness(now)).map(Reading::Missing));
        Ok(readings)
    }

    fn staleness(&self, now: Instant) -> Option<Gap> {
        let stale = |text: String| Some(Gap { kind: GapKind::Stale, text });
        if let Some(arm) = Arm::BOTH.into_iter().find(|arm| self.aligner.is_silent(*arm)) {
            return stale(format!("{arm}: its counters have no new samples: see whether it is still scraped"));
        }
        let quiet = now.saturating_duration_since(self.news_at);
        let quiet_ms = u64::try_from(quiet.as_millis()).unwrap_or(u64::MAX);
        if quiet > self.patience {
            return stale(format!("its counters have no new samples for {}", human_duration(quiet_ms)));
        }
        None
    }

    async fn values(&self, query: &PerArm) -> Reading {
        let mut values = [None; 2];
        let mut missing = None;
        for (arm, query) in [(Arm::Stable, query.stable.as_deref()), (Arm::Canary, Some(query.canary.as_str()))] {
            let Some(query) = query else { continue };
            match self.source.value(query).await {
                Ok(value) => values[arm.index()] = Some(value),
                Err(gap) => missing = Some(of_arm(arm, gap)),
            }
        }
        if query.stable.is_none() {
            values[Arm::Stable.index()] = values[Arm::Canary.index()];
        }
        match missing {
            Some(gap) if values == [None; 2] => Reading::Missing(gap),
            missing => Reading::Values(values, missing),
        }
    }
}

fn of_arm(arm: Arm, gap: Gap) -> Gap {
    match gap.kind {
        GapKind::Unreachable | GapKind::Secret | GapKind::TimedOut | GapKind::NotYet => gap,
        _ => Gap { text: format!("{arm}: {}", gap.text), ..gap },
    }
}

#[cfg(test)]
mod tests;
