//! Quantities that are measured again and again (CPU, memory, values of other sources), against stable or against a fixed limit
//! (ANALYSIS 2.7).
//!
//! Samples follow each other too closely to be independent, so they are gathered into blocks of a minute after two minutes of
//! warm-up, and the block means are tested. The canary's value is compared with the most it may be: stable's times the ratio,
//! or plus the increase, or the limit. Values below a floor count as the floor: nothing is wrong with twice of nothing. What another
//! source measures has no natural floor: there the floor is a thousandth of the larger of the two values that are compared.
//!
//! If stable breaks a fixed limit too in the last whole minute, the verdict is *environment*, as for absolute limits of requests;
//! at 100 % stable has nothing to do and says nothing. After a retreat the test starts anew, with a smaller share of the
//! alarm budget. A canary without traffic is not measured.

use serde::{Deserialize, Serialize};
use serin_stats::{BlockConfig, Blocks, ConfigError, GaugeE};

use super::{Evidence, limit::restart_penalty, words};
use crate::{
    Timestamp, WeightBps, format_value, human_duration,
    judge::Verdict,
    plan::{Criterion, Metric, SequentialRules},
    traffic::{Observation, Reading, by_arm},
};

/// One thousandth of a core, in percent.
const LEAST_CPU_PERCENT: f64 = 0.1;
/// A mebibyte.
const LEAST_MEMORY_BYTES: f64 = 1_048_576.0;
/// Values of other sources: the smaller of two counts as at least this share of the larger.
const LEAST_OF_LARGER: f64 = 0.001;

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

impl Bound {
    /// A value and what is allowed, such that a breach has the first above the second.
    fn worse_first(self, value: f64, allowed: f64) -> (f64, f64) {
        if matches!(self, Self::AtLeast(_)) { (allowed, value) } else { (value, allowed) }
    }
}

/// The least time in which a criterion on CPU or memory can pass, in milliseconds: warm-up and as many blocks as a difference
/// without any noise needs. `poll_ms`: the time between two values, if others measure them.
#[must_use]
pub fn least_gauge_ms(rules: &SequentialRules, poll_ms: u64) -> u64 {
    let config = BlockConfig::default();
    let block_ms = config.block_ms.max(poll_ms.saturating_mul(config.least_samples.into()));
    config.warm_up_ms.saturating_add(block_ms.saturating_mul(GaugeE::least_blocks(-rules.beta.ln())))
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
    /// Fixed limits: stable's running block, and by how much (`ln`) its last whole one was beyond the limit.
    stable_blocks: Blocks,
    stable_beyond: Option<f64>,
    is_retreating: bool,
    /// How often the test started anew after trouble that both arms had.
    restarts: u32,
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
            stable_blocks: Blocks::new(BlockConfig::default()),
            stable_beyond: None,
            is_retreating: false,
            restarts: 0,
        })
    }

    pub(super) fn is_versus_stable(&self) -> bool {
        matches!(self.bound, Bound::Stable { .. })
    }

    pub(super) fn begin_stage(&mut self) {
        if std::mem::take(&mut self.is_retreating) {
            self.restart();
        }
        if let Ok(fresh) = GaugeE::new(1.0) {
            self.pass = fresh;
        }
        self.passed = false;
        self.values = [None; 2];
    }

    /// Evidence against the canary begins anew.
    pub(super) fn acknowledge(&mut self) {
        if let Ok(fresh) = GaugeE::new(1.0) {
            self.fail = fresh;
        }
    }

    pub(super) fn observe(&mut self, observation: &Observation, in_stage: bool, ln_pass: f64) {
        let Some([stable, canary]) = self.look(observation) else { return };
        self.values = [canary, stable];
        if self.is_retreating {
            return;
        }
        let Some((value, allowed)) = canary.zip(self.allowed(stable)) else { return };
        let age_ms = observation.at.ms_since(*self.since.get_or_insert(observation.at));
        if let Some(stable) = stable.filter(|_| !self.is_versus_stable()) {
            let (value, allowed) = self.pair(stable, allowed);
            self.stable_beyond = self.stable_blocks.push(age_ms, value, allowed).ok().flatten().or(self.stable_beyond);
        }
        let (value, allowed) = self.pair(value, allowed);
        // Both are above zero and finite.
        let Ok(Some(block)) = self.blocks.push(age_ms, value, allowed) else { return };
        let _ = self.fail.update(block);
        if in_stage {
            let _ = self.pass.update(block);
            self.passed |= self.pass.ln_e_pass() >= ln_pass;
        }
    }

    /// What a new start costs is taken off.
    pub(super) fn ln_e(&self) -> f64 {
        self.fail.ln_e_fail() - restart_penalty(self.restarts)
    }

    /// From here on only stable is looked at.
    pub(super) fn begin_retreat(&mut self) {
        self.is_retreating |= !self.is_versus_stable();
    }

    /// Whether stable keeps a fixed limit at the moment; `None` without one, or without data.
    pub(super) fn stable_keeps(&self) -> Option<bool> {
        let allowed = self.allowed(None).filter(|_| !self.is_versus_stable())?;
        let (value, allowed) = self.bound.worse_first(self.values[1]?, allowed);
        Some(value <= allowed)
    }

    pub(super) fn verdict(&self, ln_threshold: f64, weight: WeightBps) -> Verdict {
        if self.ln_e() >= ln_threshold {
            let is_shared = weight != WeightBps::FULL && self.stable_beyond.is_some_and(|beyond| beyond > 0.0);
            if is_shared { Verdict::Environment } else { Verdict::Fail }
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
            Verdict::Environment => {
                format!("{measured}; stable at the same time {}, so that it may not be the canary's fault", show(self.values[1]))
            }
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

    /// Stable's value and the canary's; `None` if this observation is not about them.
    fn look(&self, observation: &Observation) -> Option<[Option<f64>; 2]> {
        let values = match self.metric {
            Metric::External(external) => match observation.readings(external.name).last()? {
                Reading::Values(values, _) => values.map(|value| value.map(|value| value.max(0.0))),
                Reading::Counts(_) | Reading::Missing(_) => [None; 2],
            },
            Metric::Cpu => by_arm(|arm| observation.gauges[arm.index()].cpu_percent),
            _ => by_arm(|arm| observation.gauges[arm.index()].memory_bytes),
        };
        Some(values.map(|value| value.filter(|value| value.is_finite() && *value >= 0.0).map(|value| value.max(self.floor()))))
    }

    /// A value and what is allowed, the one that may not be larger first, and both above zero.
    fn pair(&self, value: f64, allowed: f64) -> (f64, f64) {
        let (value, allowed) = self.bound.worse_first(value, allowed);
        let most = value.max(allowed);
        match self.metric {
            Metric::External(_) if most <= 0.0 => (1.0, 1.0),
            Metric::External(_) => (value.max(most * LEAST_OF_LARGER), allowed.max(most * LEAST_OF_LARGER)),
            _ => (value, allowed),
        }
    }

    fn restart(&mut self) {
        self.restarts = self.restarts.saturating_add(1);
        self.acknowledge();
        // Warm-up included: the canary had nothing to do meanwhile.
        self.since = None;
        (self.blocks, self.stable_blocks) = (Blocks::new(BlockConfig::default()), Blocks::new(BlockConfig::default()));
        self.stable_beyond = None;
    }

    fn floor(&self) -> f64 {
        match self.metric {
            Metric::Cpu => LEAST_CPU_PERCENT,
            Metric::External(_) => 0.0,
            _ => LEAST_MEMORY_BYTES,
        }
    }
}
