//! One criterion against one set of values: is a limit broken, and how close is it?

use serin_stats::ArmCounts;

use super::{CriterionAssessment, Verdict, sights::Sights, slices::Slices};
use crate::{
    WeightBps, format_value,
    plan::{Combine, Criterion, ExternalKind, Metric, MetricSource, Quantile, VersusStable},
    traffic::{Arm, ArmGauges, Counts, Outcome},
};

/// Where values are taken from at one evaluation.
pub(super) struct Scene<'a> {
    pub(super) slices: &'a Slices,
    pub(super) gauges: &'a [ArmGauges; 2],
    pub(super) sights: &'a Sights,
    /// Time that the counts cover; `None` if too short for rates.
    pub(super) covered_s: Option<f64>,
    pub(super) weight: WeightBps,
}

/// What one look at a criterion shows.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Reading {
    /// A limit is broken. `shared`: stable breaks the same absolute limit.
    Broken { shared: bool, text: String },
    /// All limits are kept.
    Kept { text: String },
    /// Some data, but less than the criterion asks for.
    TooFew { text: String },
    /// No data at all.
    NoData { text: String },
}

/// A reading with the values it was made from.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Read {
    pub(super) reading: Reading,
    pub(super) canary: Option<f64>,
    pub(super) stable: Option<f64>,
    pub(super) pressure: Option<f64>,
}

impl Read {
    /// What is said about the criterion, with this verdict in these words.
    pub(super) fn assessed(self, criterion: &Criterion, verdict: Verdict, text: String) -> CriterionAssessment {
        CriterionAssessment {
            name: criterion.name.clone(),
            metric: criterion.metric,
            verdict,
            canary: self.canary,
            stable: self.stable,
            on_breach: criterion.on_breach,
            severity: criterion.severity,
            pressure: self.pressure,
            evidence: None,
            text,
        }
    }
}

/// A traffic metric's value of these requests; `None` without any, or if the metric does not come from traffic.
/// `covered_s`: see [`Scene::covered_s`].
pub(super) fn traffic_value(metric: Metric, counts: &Counts, covered_s: Option<f64>) -> Option<f64> {
    Sample::of_traffic(metric, counts, covered_s)?.value
}

/// A process metric's value of an arm; `None` if it was not measured, or the metric does not come from processes.
pub(super) fn gauge_value(metric: Metric, gauges: &ArmGauges) -> Option<f64> {
    let value = match metric {
        Metric::Cpu => gauges.cpu_percent,
        Metric::Memory => gauges.memory_bytes,
        Metric::Restarts => gauges.restarts.map(|restarts| restarts as f64),
        _ => None,
    };
    // What cannot be is not a measurement.
    value.filter(|value| value.is_finite() && *value >= 0.0)
}

impl Scene<'_> {
    /// Looks at the limits that apply: the absolute ones always, those against stable while both arms get traffic.
    /// `None` if nothing of the criterion applies.
    pub(super) fn read(&self, criterion: &Criterion) -> Option<Read> {
        let versus = criterion.versus_stable.filter(|_| !self.weight.is_zero() && self.weight != WeightBps::FULL);
        if versus.is_none() && criterion.max.is_none() && criterion.min.is_none() {
            return None;
        }
        if let Some(gap) = self.sights.gap(criterion.metric) {
            return Some(Read { reading: Reading::NoData { text: gap.to_string() }, canary: None, stable: None, pressure: None });
        }
        // Without compared requests the absolute limits are still looked at, by whatever came by weight.
        let has_absolute = criterion.max.is_some() || criterion.min.is_some();
        let is_compared = criterion.metric.source() != MetricSource::Traffic || self.slices.compared(Arm::Canary).requests() > 0;
        let compared_only = versus.is_some() && (is_compared || !has_absolute);
        let canary = self.sample(criterion.metric, Arm::Canary, compared_only);
        let stable = self.sample(criterion.metric, Arm::Stable, compared_only);
        let enough = |sample: &Sample| sample.requests.is_none_or(|n| n >= criterion.min_sample);

        let Some(value) = canary.value else {
            let text = format!("no data about the canary's {}", criterion.metric.name());
            return Some(Read { reading: Reading::NoData { text }, canary: None, stable: stable.value, pressure: None });
        };
        let mut read = Read { reading: Reading::Kept { text: String::new() }, canary: Some(value), stable: stable.value, pressure: None };
        if !enough(&canary) {
            let text = format!(
                "{} so far; {} of {} requests needed to judge",
                self.describe(criterion, &canary),
                canary.requests.unwrap_or(0),
                criterion.min_sample
            );
            read.reading = Reading::TooFew { text };
            return Some(read);
        }
        let absolute = absolute_limits(criterion, value);
        let shared = enough(&stable) && stable.value.is_some_and(|stable| absolute_limits(criterion, stable).broken.is_some());
        let relative = versus.map(|versus| match stable.value {
            Some(_) if compared_only && enough(&stable) => versus_limits(criterion, versus, &canary, &stable, self.weight),
            _ => Limits { broken: None, pressure: 0.0, undecided: true },
        });
        read.pressure = Some(relative.as_ref().map_or(0.0, |limits| limits.pressure).max(absolute.pressure));
        let against = if versus.is_some() { format!(" against {}", self.describe(criterion, &stable)) } else { String::new() };
        let values = format!("{}{against}", self.describe(criterion, &canary));
        read.reading = match (absolute.broken, relative) {
            (Some(limit), relative) => {
                // Both break the same limit, but a canary that is also worse than stable is at fault itself.
                let worse = relative.is_some_and(|relative| relative.broken.is_some());
                Reading::Broken { shared: shared && !worse, text: format!("{values}; limit {limit}") }
            }
            (None, Some(Limits { broken: Some(limit), .. })) => Reading::Broken { shared: false, text: format!("{values}; limit {limit}") },
            (None, Some(Limits { undecided: true, .. })) if stable.value.is_none() || !compared_only => {
                Reading::NoData { text: format!("{values}; nothing to compare with") }
            }
            (None, Some(Limits { undecided: true, .. })) => Reading::TooFew {
                text: format!(
                    "{values}; stable has {} of {} requests needed to compare",
                    stable.requests.unwrap_or(0),
                    criterion.min_sample
                ),
            },
            _ => Reading::Kept { text: values },
        };
        Some(read)
    }

    /// Looks at the absolute limits for matched requests only. `None` if there are too few of them to say anything. How
    /// many there are is up to the people who send them, so request rates are left out.
    pub(super) fn read_matched(&self, criterion: &Criterion) -> Option<Read> {
        if criterion.metric == Metric::RequestRate || (criterion.max.is_none() && criterion.min.is_none()) {
            return None;
        }
        let counts = self.slices.matched(Arm::Canary);
        if counts.requests() < criterion.min_sample.max(1) {
            return None;
        }
        let sample = Sample::of_traffic(criterion.metric, counts, self.covered_s)?;
        let value = sample.value?;
        let absolute = absolute_limits(criterion, value);
        let text = format!("{}: {}", self.slices.choice(), self.describe(criterion, &sample));
        let reading = match absolute.broken {
            Some(limit) => Reading::Broken { shared: false, text: format!("{text}; limit {limit}") },
            None => Reading::Kept { text },
        };
        Some(Read { reading, canary: Some(value), stable: None, pressure: Some(absolute.pressure) })
    }

    /// Whether stable breaks the criterion's absolute limits; `None` if it has none or there is too little data.
    pub(super) fn stable_breaks(&self, criterion: &Criterion) -> Option<bool> {
        if criterion.max.is_none() && criterion.min.is_none() {
            return None;
        }
        let sample = self.sample(criterion.metric, Arm::Stable, false);
        let value = sample.value.filter(|_| sample.requests.is_none_or(|n| n >= criterion.min_sample.max(1)))?;
        Some(absolute_limits(criterion, value).broken.is_some())
    }

    fn sample(&self, metric: Metric, arm: Arm, compared_only: bool) -> Sample {
        if let Metric::External(external) = metric {
            return match external.kind {
                ExternalKind::Ratio => Sample::of_counts(self.slices.measured(external.name, arm)),
                ExternalKind::Value => Sample { value: self.sights.value(metric, arm), events: None, requests: None },
            };
        }
        let open;
        let counts = match compared_only {
            true => self.slices.compared(arm),
            false => {
                open = self.slices.open(arm);
                &open
            }
        };
        Sample::of_traffic(metric, counts, self.covered_s).unwrap_or_else(|| {
            let value = gauge_value(metric, &self.gauges[arm.index()]);
            Sample { value, events: None, requests: None }
        })
    }

    fn describe(&self, criterion: &Criterion, sample: &Sample) -> String {
        let Some(value) = sample.value else { return "no data".to_owned() };
        let shown = format_value(value, criterion.metric.unit());
        match (sample.events, sample.requests) {
            (Some(events), Some(requests)) => format!("{shown} ({events} of {requests})"),
            (None, Some(requests)) => format!("{shown} ({requests} requests)"),
            _ => shown,
        }
    }
}

/// A metric's value with the sample it came from.
struct Sample {
    value: Option<f64>,
    /// Requests that count towards the value, for shares.
    events: Option<u64>,
    /// Size of the sample; `None` for metrics that are not made of requests.
    requests: Option<u64>,
}

impl Sample {
    /// `None` for metrics that do not come from traffic.
    fn of_traffic(metric: Metric, counts: &Counts, covered_s: Option<f64>) -> Option<Self> {
        let requests = counts.requests();
        let share = |events: u64| Self::of_counts(ArmCounts { requests, events });
        Some(match metric {
            Metric::ErrorRate => share(counts.errors()),
            Metric::ServerErrorRate => share(counts.of(Outcome::ServerError)),
            Metric::ClientErrorRate => share(counts.of(Outcome::ClientError)),
            Metric::Latency(quantile) => Self {
                value: counts.latency.quantile_us(quantile.q()).map(|us| us / 1000.0),
                events: None,
                requests: Some(counts.latency.total()),
            },
            // Never judged by its value; people are shown the tail.
            Metric::LatencyAny => return Self::of_traffic(Metric::Latency(Quantile::P99), counts, covered_s),
            // No request at all is a rate of zero, not a lack of data; the sample is the time.
            Metric::RequestRate => Self { value: covered_s.map(|covered_s| requests as f64 / covered_s), events: None, requests: None },
            Metric::Cpu | Metric::Memory | Metric::Restarts | Metric::External(_) => return None,
        })
    }

    fn of_counts(counts: ArmCounts) -> Self {
        let ArmCounts { requests, events } = counts;
        let value = (requests > 0).then(|| events.min(requests) as f64 / requests as f64);
        Self { value, events: Some(events), requests: Some(requests) }
    }
}

struct Limits {
    /// The limit that is broken, in words.
    broken: Option<String>,
    /// See [`super::CriterionAssessment::pressure`].
    pressure: f64,
    undecided: bool,
}

fn absolute_limits(criterion: &Criterion, value: f64) -> Limits {
    let unit = criterion.metric.unit();
    let too_high = criterion.max.filter(|max| value > *max).map(|max| format!("at most {}", format_value(max, unit)));
    let too_low = criterion.min.filter(|min| value < *min).map(|min| format!("at least {}", format_value(min, unit)));
    let pressure = criterion.max.map_or(0.0, |max| closeness(value, max)).max(criterion.min.map_or(0.0, |min| closeness(min, value)));
    Limits { broken: too_high.or(too_low), pressure, undecided: false }
}

fn versus_limits(criterion: &Criterion, versus: VersusStable, canary: &Sample, stable: &Sample, weight: WeightBps) -> Limits {
    let unit = criterion.metric.unit();
    let (Some(canary_value), Some(stable_value)) = (canary.value, stable.value) else {
        return Limits { broken: None, pressure: 0.0, undecided: true };
    };
    // Rates are compared per share of traffic: at 5 % the canary is expected to get a nineteenth of stable's requests.
    let (canary_value, stable_value) = match criterion.metric {
        Metric::RequestRate => (canary_value / weight.share(), stable_value / (1.0 - weight.share())),
        _ => (canary_value, stable_value),
    };
    let ratio = versus.ratio.map(|ratio| Bound {
        value: smoothed(canary_value, canary, stable),
        limit: smoothed(stable_value, canary, stable) * ratio,
        text: format!("at most {ratio}× stable"),
    });
    let increase = versus.increase.map(|increase| Bound {
        value: canary_value - stable_value,
        limit: increase,
        text: match criterion.metric.unit() {
            crate::Unit::Share | crate::Unit::CpuPercent => format!("at most {}pp above stable", trimmed(increase, unit)),
            _ => format!("at most {} above stable", format_value(increase, unit)),
        },
    });
    let decrease = versus.decrease.map(|decrease| Bound {
        value: stable_value - canary_value,
        limit: stable_value * decrease,
        text: format!("at most {} below stable", format_value(decrease, crate::Unit::Share)),
    });
    let rose = match (&ratio, &increase) {
        (Some(a), Some(b)) if versus.combine == Combine::Both => {
            (a.is_broken() && b.is_broken()).then(|| format!("{} and {}", a.text, b.text))
        }
        (a, b) => a.iter().chain(b).find(|bound| bound.is_broken()).map(|bound| bound.text.clone()),
    };
    let pressures = ratio.iter().chain(&increase).map(Bound::pressure);
    let pressure = match versus.combine {
        Combine::Both => pressures.reduce(f64::min),
        Combine::Either => pressures.reduce(f64::max),
    };
    let pressure = pressure.unwrap_or(0.0).max(decrease.as_ref().map_or(0.0, Bound::pressure));
    let fell = decrease.filter(Bound::is_broken).map(|bound| bound.text);
    Limits { broken: fell.or(rose), pressure, undecided: false }
}

struct Bound {
    value: f64,
    limit: f64,
    text: String,
}

impl Bound {
    fn is_broken(&self) -> bool {
        self.value > self.limit
    }

    fn pressure(&self) -> f64 {
        closeness(self.value, self.limit)
    }
}

/// 0 when `value` is at most half of `limit`, 1 at the limit or beyond, linear between.
fn closeness(value: f64, limit: f64) -> f64 {
    if limit <= 0.0 {
        return if value > limit { 1.0 } else { 0.0 };
    }
    ((value / limit - 0.5) * 2.0).clamp(0.0, 1.0)
}

/// A share as if half an event more had been seen in a sample of the smaller arm's size, so that one error against a clean
/// stable is not an infinite ratio. Both arms get the same sample size: with their own, a clean canary of 50 requests would
/// look twenty times worse than a clean stable of 1,000. No event at all stays no event.
fn smoothed(value: f64, canary: &Sample, stable: &Sample) -> f64 {
    let (true, Some(of_canary), Some(of_stable)) = (canary.events.is_some(), canary.requests, stable.requests) else { return value };
    if canary.events == Some(0) && stable.events == Some(0) {
        return value;
    }
    let size = of_canary.min(of_stable) as f64;
    (value * size + 0.5) / (size + 1.0)
}

fn trimmed(value: f64, unit: crate::Unit) -> String {
    format_value(value, unit).trim_end_matches(" %").to_owned()
}
