//! What is known at present of metrics that other sources measure.
//!
//! Not remembered across restarts: what was known before one is old by then, and until the sources have answered again the verdict is
//! *unknown*.

use std::collections::BTreeMap;

use crate::{
    Timestamp,
    plan::{Analysis, Metric, MetricName},
    traffic::{Arm, Gap, GapKind, Observation, Reading},
};

/// The last look at each metric.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sights {
    last: BTreeMap<MetricName, Sight>,
    /// How long a look says something about now, in milliseconds.
    patience_ms: u64,
    now: Timestamp,
}

#[derive(Debug, Clone, PartialEq)]
struct Sight {
    at: Timestamp,
    values: [Option<f64>; 2],
    gap: Option<Gap>,
}

impl Sights {
    pub(super) fn new(analysis: &Analysis) -> Self {
        Self { last: BTreeMap::new(), patience_ms: analysis.unheard_after_ms(), now: Timestamp(0) }
    }

    pub(super) fn observe(&mut self, observation: &Observation) {
        self.now = self.now.max(observation.at);
        for measured in &observation.measured {
            let (values, gap) = match &measured.reading {
                Reading::Counts(_) => ([None; 2], None),
                Reading::Values(values, gap) => (*values, gap.clone()),
                Reading::Missing(gap) => ([None; 2], Some(gap.clone())),
            };
            self.last.insert(measured.metric, Sight { at: observation.at, values, gap });
        }
    }

    /// Why nothing is known of a metric at present; `None` if something is, or if Serin measures it itself.
    pub(super) fn gap(&self, metric: Metric) -> Option<Gap> {
        let name = metric.external()?.name;
        let Some(sight) = self.last.get(&name) else {
            return Some(Gap { kind: GapKind::NotYet, text: "its source has not answered yet".to_owned() });
        };
        let age_ms = self.now.ms_since(sight.at);
        if age_ms > self.patience_ms {
            let text = format!("nothing was heard of its source for {}", crate::human_duration(age_ms));
            return Some(Gap { kind: GapKind::Stale, text });
        }
        sight.gap.clone()
    }

    /// The value of an arm, if that is what is measured and there is one.
    pub(super) fn value(&self, metric: Metric, arm: Arm) -> Option<f64> {
        let sight = self.last.get(&metric.external()?.name)?;
        let is_fresh = self.now.ms_since(sight.at) <= self.patience_ms;
        sight.values[arm.index()].filter(|value| is_fresh && value.is_finite())
    }
}
