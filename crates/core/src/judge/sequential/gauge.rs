//! What processes use (CPU, memory), against stable or against a fixed limit (ANALYSIS 2.7).
//!
//! Samples follow each other too closely to be independent, so they are gathered into blocks of a minute after two minutes of
//! warm-up, and the block means are tested. The canary's value is compared with the most it may be: stable's times the ratio,
//! or plus the increase, or the limit. Values below a floor count as the floor: nothing is wrong with twice of nothing.

use serde::{Deserialize, Serialize};
use serin_stats::{BlockConfig, Blocks, ConfigError, GaugeE};

use super::{Evidence, words};
use crate::{
    Timestamp, format_value, human_duration,
    judge::Verdict,
    plan::{Criterion, Metric, SequentialRules},
    traffic::{Arm, ArmGauges, Observation},
};

/// One thousandth of a core, in percent.
const LEAST_CPU_PERCENT: f64 = 0.1;
/// A mebibyte.
const LEAST_MEMORY_BYTES: f64 = 1_048_576.0;

/// What the canary's value is held against.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) enum Bound {
    /// Stable's value at the same time. What is given must be exceeded, both if both are.
    Stable {
        ratio: Option<f64>,
        increase: Option<f64>,
    },
    AtMost(f64),
    AtLeast(f64),
}

/// The least time in which a criterion on CPU or memory can pass, in milliseconds: warm-up and as many blocks as a difference
/// without any noise needs.
#[must_use]
pub fn least_gauge_ms(rules: &SequentialRules) -> u64 {
    let config = BlockConfig::default();
    config.warm_up_ms.saturating_add(config.block_ms.saturating_mul(GaugeE::least_blocks(-rules.beta.ln())))
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct GaugeTest {
    metric: Metric,
    bound: Bound,
    since: Option<Timestamp>,
    blocks: Blocks,
    fail: GaugeE,
    pass: GaugeE,
    passed: bool,
    values: [Option<f64>; 2],
}

impl GaugeTest {
    pub(super) fn new(criterion: &Criterion, bound: Bound) -> Result<Self, ConfigError> {
        Ok(Self {
            metric: criterion.metric,
            bound,
            since: None,
            blocks: Blocks::new(BlockConfig::default()),
            fail: GaugeE::new(1.0)?,
            pass: GaugeE::new(1.0)?,
            passed: false,
            values: [None; 2],
        })
    }

    pub(super) fn is_versus_stable(&self) -> bool {
        matches!(self.bound, Bound::Stable { .. })
    }

    pub(super) fn begin_stage(&mut self) {
        if let Ok(fresh) = GaugeE::new(1.0) {
            self.pass = fresh;
        }
        self.passed = false;
        self.values = [None; 2];
    }

    pub(super) fn observe(&mut self, observation: &Observation, in_stage: bool, ln_pass: f64) {
        let [stable, canary] = [Arm::Stable, Arm::Canary].map(|arm| self.value(&observation.gauges[arm.index()]));
        self.values = [canary, stable];
        let Some((value, allowed)) = canary.zip(self.allowed(stable)) else { return };
        let age_ms = observation.at.ms_since(*self.since.get_or_insert(observation.at));
        let (value, allowed) = match self.bound {
            Bound::AtLeast(_) => (allowed, value),
            _ => (value, allowed),
        };
        // Both are above zero and finite.
        let Ok(Some(block)) = self.blocks.push(age_ms, value, allowed) else { return };
        let _ = self.fail.update(block);
        if in_stage {
            let _ = self.pass.update(block);
            self.passed |= self.pass.ln_e_pass() >= ln_pass;
        }
    }

    pub(super) fn ln_e(&self) -> f64 {
        self.fail.ln_e_fail()
    }

    pub(super) fn verdict(&self, ln_threshold: f64) -> Verdict {
        if self.ln_e() >= ln_threshold {
            Verdict::Fail
        } else if self.passed {
            Verdict::Pass
        } else if self.values[0].is_none() || (self.is_versus_stable() && self.values[1].is_none()) {
            Verdict::Unknown
        } else {
            Verdict::Inconclusive
        }
    }

    /// The canary's value and stable's, now.
    pub(super) fn values(&self) -> [Option<f64>; 2] {
        self.values
    }

    pub(super) fn text(&self, evidence: &Evidence, verdict: Verdict) -> String {
        let unit = self.metric.unit();
        let show = |value: Option<f64>| value.map_or_else(|| "no data".to_owned(), |value| format_value(value, unit));
        let values = match self.bound {
            Bound::Stable { .. } => format!("{} against {}", show(self.values[0]), show(self.values[1])),
            _ => show(self.values[0]),
        };
        let limit = match self.bound {
            Bound::Stable { ratio, increase } => {
                format!("limit {}", words::limit(ratio, increase.map(|increase| format_value(increase, unit))))
            }
            Bound::AtMost(most) => format!("limit {}", format_value(most, unit)),
            Bound::AtLeast(least) => format!("limit at least {}", format_value(least, unit)),
        };
        let of_limit = self.fail.ratio().map(|ratio| format!(", {}× the limit over {} blocks", words::number(ratio), self.fail.blocks()));
        let measured = format!("{values}; {limit}{}", of_limit.unwrap_or_default());
        match verdict {
            Verdict::Unknown => format!("no data about the canary's {}", self.metric.name()),
            Verdict::Fail => format!("{measured}; {}", evidence.needed(self.ln_e())),
            Verdict::Pass => format!("{measured}; surely kept"),
            _ if self.pass.blocks() < GaugeE::least_blocks(evidence.ln_pass) => {
                let config = BlockConfig::default();
                let (block, warm_up) = (human_duration(config.block_ms), human_duration(config.warm_up_ms));
                let least = GaugeE::least_blocks(evidence.ln_pass);
                format!("{measured}; {} of at least {least} blocks of {block} after a warm-up of {warm_up}", self.pass.blocks())
            }
            _ => format!("{measured}; {}", evidence.of_harm(self.ln_e())),
        }
    }

    fn allowed(&self, stable: Option<f64>) -> Option<f64> {
        match self.bound {
            Bound::AtMost(limit) | Bound::AtLeast(limit) => Some(limit.max(self.floor())),
            Bound::Stable { ratio, increase } => {
                let stable = stable?;
                ratio.map(|ratio| stable * ratio).into_iter().chain(increase.map(|increase| stable + increase)).reduce(f64::max)
            }
        }
    }

    fn value(&self, gauges: &ArmGauges) -> Option<f64> {
        let value = match self.metric {
            Metric::Cpu => gauges.cpu_percent,
            _ => gauges.memory_bytes,
        };
        value.filter(|value| value.is_finite() && *value >= 0.0).map(|value| value.max(self.floor()))
    }

    fn floor(&self) -> f64 {
        if self.metric == Metric::Cpu { LEAST_CPU_PERCENT } else { LEAST_MEMORY_BYTES }
    }
}
