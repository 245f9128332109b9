//! One observation in the form that the tests take: batches by the weight at assignment.
//!
//! - *Compared*: what randomly or stickily assigned requests show; the only thing that ratio and difference tests see. Of
//!   sticky traffic it is clients that count, with their first request at each weight and their first error in the release:
//!   what one client sends is not independent.
//! - *By weight*: everything that the weights sent to an arm; what absolute limits look at.
//! - *Matched*: what declared rules, or the preview, sent to the canary; another population, for absolute limits of its own.
//!
//! A request is slow as soon as it is older than the edge that is looked at, whether it has ended or not. The difference
//! between two looks at "ended slow or failed, or open and older" counts every request once for a fixed edge. A request that
//! ends in an error after it had crossed the edge is in it all the time.

use serin_stats::{ArmCounts, ArmsBatch, ClassEvents, LatencyCode, Share};

use crate::{
    WeightBps,
    plan::{Metric, MetricName},
    traffic::{Arm, Assignment, Counts, Observation, OpenCell, Outcome, Reading, TrafficCell},
};

/// An observation with the open requests of the one before.
pub(super) struct Feed<'a> {
    pub(super) observation: &'a Observation,
    before: &'a [OpenCell],
    /// The weights send requests to both arms: only then are they beside each other for sources that do not know how a request came to its
    /// arm. A preview is looked at by people, and next to a canary that has everything an idle stable answers probes.
    pub(super) is_beside: bool,
}

/// Events of a rate among compared traffic at one weight.
pub(super) struct RateBatch {
    /// For tests on events: the first failure of every client counts.
    pub(super) fail: ArmsBatch,
    /// For tests on rates: the first request of every client counts.
    pub(super) pass: ArmsBatch,
}

/// Which requests a limit is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Population {
    /// Sent by the weights.
    ByWeight(Arm),
    /// Sent to the canary by a declared rule or through the preview address.
    Matched,
}

/// Requests and events of one population, and how many of the events are independent of each other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) counts: ArmCounts,
    /// Failing clients of sticky traffic, failing requests of the rest.
    pub(super) units: u64,
}

impl<'a> Feed<'a> {
    pub(super) fn new(observation: &'a Observation, before: &'a [OpenCell], is_beside: bool) -> Self {
        Self { observation, before, is_beside }
    }

    /// Compared events of a rate, by weight. Weights at which nothing can be compared are in it: they tell about stable.
    pub(super) fn rates(&self, metric: Metric) -> Vec<RateBatch> {
        if let Metric::External(external) = metric {
            return self.measured_rates(external.name).collect();
        }
        let batch = |weight: WeightBps, of: &dyn Fn(&TrafficCell) -> ArmCounts| {
            let arm = |arm: Arm| {
                let mut sum = ArmCounts::default();
                self.compared(weight, arm).for_each(|cell| sum.add(of(cell)));
                sum
            };
            ArmsBatch { canary: arm(Arm::Canary), stable: arm(Arm::Stable), weight: share(weight) }
        };
        let fail = |cell: &TrafficCell| match &cell.sessions {
            Some(sessions) if metric != Metric::ClientErrorRate => {
                ArmCounts { requests: sessions.first.requests(), events: rate_events(metric, &sessions.errors) }
            }
            _ => rate_counts(metric, cell),
        };
        let weights = self.weights();
        let compared =
            weights.map(|weight| RateBatch { fail: batch(weight, &fail), pass: batch(weight, &|cell| rate_counts(metric, cell)) });
        compared.chain(self.alone(metric)).collect()
    }

    /// What another source counted, by the shares that the arms really had: it does not know the weights that assigned what it
    /// counts. Counts of the canary alone say nothing about the ratio.
    fn measured_rates(&self, metric: MetricName) -> impl Iterator<Item = RateBatch> {
        self.measured_counts(metric).filter_map(|[stable, canary]| {
            let canary = if self.is_beside { canary } else { ArmCounts::default() };
            let weight = if canary.requests == 0 { Share::NONE } else { Share::realised(canary.requests, stable.requests)? };
            let batch = ArmsBatch { canary, stable, weight };
            (stable.requests > 0).then_some(RateBatch { fail: batch, pass: batch })
        })
    }

    fn measured_counts(&self, metric: MetricName) -> impl Iterator<Item = [ArmCounts; 2]> {
        self.observation.readings(metric).filter_map(|reading| match reading {
            Reading::Counts(counts) => Some(*counts),
            Reading::Values(..) | Reading::Missing(_) => None,
        })
    }

    /// What stable did while it had everything: nothing to compare, but it tells what stable's rate is.
    fn alone(&self, metric: Metric) -> Option<RateBatch> {
        let mut stable = ArmCounts::default();
        let cells = self.observation.cells.iter().filter(|cell| cell.arm == Arm::Stable && cell.assignment == Assignment::Forced);
        cells.for_each(|cell| stable.add(rate_counts(metric, cell)));
        let batch = ArmsBatch { canary: ArmCounts::default(), stable, weight: Share::NONE };
        (stable.requests > 0).then_some(RateBatch { fail: batch, pass: batch })
    }

    /// Compared errors by class at each weight. `id` names classes.
    pub(super) fn classes(&self, mut id: impl FnMut(&str) -> u64) -> Vec<(Share, Vec<ClassEvents>)> {
        self.weights()
            .map(|weight| {
                let mut events: Vec<ClassEvents> = Vec::new();
                for arm in Arm::BOTH {
                    for cell in self.compared(weight, arm) {
                        let counts = cell.sessions.as_ref().map_or(&cell.counts, |sessions| &sessions.errors);
                        let mut unnamed = counts.errors();
                        for (class, count) in &counts.error_classes {
                            unnamed = unnamed.saturating_sub(*count);
                            add_class(&mut events, id(class), arm, *count);
                        }
                        // Sources that know no classes.
                        add_class(&mut events, id("unnamed"), arm, unnamed);
                    }
                }
                (share(weight), events)
            })
            .collect()
    }

    /// Whether anything was compared while both arms got traffic.
    pub(super) fn compares(&self) -> bool {
        self.weights().any(|weight| share(weight).is_split())
    }

    /// Stable's errors by class, however they came to it by weight.
    pub(super) fn classes_of_stable(&self) -> impl Iterator<Item = (&str, u64)> {
        let cells = self.cells(Population::ByWeight(Arm::Stable));
        cells.flat_map(|cell| cell.counts.error_classes.iter().map(|(class, count)| (class.as_str(), *count)))
    }

    /// Compared requests that became slow or failed, by weight, among those and the ones that ended quietly.
    pub(super) fn slow(&self, code: LatencyCode) -> Vec<ArmsBatch> {
        let edges = [code.stable_edge_us, code.canary_edge_us];
        self.weights()
            .map(|weight| {
                let arm = |arm: Arm| {
                    let edge_us = edges[arm.index()];
                    let mut sum = ArmCounts::default();
                    let mut quiet = 0_u64;
                    for cell in self.compared(weight, arm) {
                        let counts = cell.sessions.as_ref().map_or(&cell.counts, |sessions| &sessions.first);
                        let ended_slow = counts.latency.count_at_or_above_us(edge_us);
                        quiet = quiet.saturating_add(counts.latency.total().saturating_sub(ended_slow));
                        sum.events = sum.events.saturating_add(counts.slow_or_failed(edge_us));
                    }
                    let wanted = |cell: &OpenCell| cell.weight == weight && cell.arm == arm && cell.assignment.is_compared();
                    sum.events = self.grown(sum.events, edge_us, wanted);
                    // A slow request is counted when it becomes slow, not again when it ends.
                    sum.requests = quiet.saturating_add(sum.events);
                    sum
                };
                ArmsBatch { canary: arm(Arm::Canary), stable: arm(Arm::Stable), weight: share(weight) }
            })
            .collect()
    }

    /// What a population shows about a rate.
    pub(super) fn rate_of(&self, metric: Metric, population: Population) -> Seen {
        let mut seen = Seen::default();
        if let Metric::External(external) = metric {
            // Other sources do not know how a request came to its arm.
            let Population::ByWeight(arm) = population else { return seen };
            self.measured_counts(external.name).for_each(|counts| seen.counts.add(counts[arm.index()]));
            seen.units = seen.counts.events;
            return seen;
        }
        for cell in self.cells(population) {
            let events = rate_events(metric, &cell.counts);
            seen.counts.add(ArmCounts { requests: cell.counts.requests(), events });
            seen.units = seen.units.saturating_add(match &cell.sessions {
                Some(sessions) if metric != Metric::ClientErrorRate => rate_events(metric, &sessions.errors),
                _ => events,
            });
        }
        seen
    }

    /// How many answers of a population were slower than a bin edge. Failures have no latency, save that a request which timed
    /// out was slow.
    pub(super) fn slow_of(&self, edge_us: u64, population: Population) -> Seen {
        let (mut quiet, mut slow) = (0_u64, 0_u64);
        for cell in self.cells(population) {
            let ended_slow = cell.counts.latency.count_at_or_above_us(edge_us);
            quiet = quiet.saturating_add(cell.counts.latency.total().saturating_sub(ended_slow));
            let given_up = cell.counts.gave_up.count_at_or_above_us(edge_us);
            slow = slow.saturating_add(ended_slow).saturating_add(given_up).saturating_add(cell.counts.of(Outcome::Timeout));
        }
        let events = self.grown(slow, edge_us, |cell| population.has(cell.arm, cell.assignment));
        Seen { counts: ArmCounts { requests: quiet.saturating_add(events), events }, units: events }
    }

    /// Every weight that anything compared belongs to.
    fn weights(&self) -> impl Iterator<Item = WeightBps> {
        let cells = self.observation.cells.iter().filter(|cell| cell.assignment.is_compared()).map(|cell| cell.weight);
        let open = self.observation.open.iter().chain(self.before).filter(|cell| cell.assignment.is_compared()).map(|cell| cell.weight);
        let mut weights: Vec<WeightBps> = cells.chain(open).collect();
        weights.sort_unstable();
        weights.dedup();
        weights.into_iter()
    }

    fn compared(&self, weight: WeightBps, arm: Arm) -> impl Iterator<Item = &TrafficCell> {
        self.observation.cells.iter().filter(move |cell| cell.weight == weight && cell.arm == arm && cell.assignment.is_compared())
    }

    fn cells(&self, population: Population) -> impl Iterator<Item = &TrafficCell> {
        self.observation.cells.iter().filter(move |cell| population.has(cell.arm, cell.assignment))
    }

    /// `ended` with the change in the number of open requests that are older than the edge. Requests that vanished with a
    /// data plane that died are not slow, so it never falls below zero.
    fn grown(&self, ended: u64, edge_us: u64, wanted: impl Fn(&OpenCell) -> bool) -> u64 {
        let older = |cells: &[OpenCell]| -> u64 {
            cells.iter().filter(|cell| wanted(cell)).fold(0, |sum, cell| sum.saturating_add(cell.ages.count_at_or_above_us(edge_us)))
        };
        ended.saturating_add(older(&self.observation.open)).saturating_sub(older(self.before))
    }
}

impl Population {
    fn has(self, arm: Arm, assignment: Assignment) -> bool {
        match self {
            Self::ByWeight(wanted) => arm == wanted && (assignment.is_compared() || assignment == Assignment::Forced),
            Self::Matched => arm == Arm::Canary && assignment.is_by_choice(),
        }
    }
}

/// How many requests count as events of a rate.
pub(super) fn rate_events(metric: Metric, counts: &Counts) -> u64 {
    match metric {
        Metric::ServerErrorRate => counts.of(Outcome::ServerError),
        Metric::ClientErrorRate => counts.of(Outcome::ClientError),
        // Not counted by the proxy.
        Metric::External(_) => 0,
        _ => counts.errors(),
    }
}

fn rate_counts(metric: Metric, cell: &TrafficCell) -> ArmCounts {
    let counts = cell.sessions.as_ref().map_or(&cell.counts, |sessions| &sessions.first);
    ArmCounts { requests: counts.requests(), events: rate_events(metric, counts) }
}

fn add_class(events: &mut Vec<ClassEvents>, class: u64, arm: Arm, count: u64) {
    if count == 0 {
        return;
    }
    let position = events.iter().position(|known| known.class == class).unwrap_or_else(|| {
        events.push(ClassEvents { class, canary_events: 0, stable_events: 0 });
        events.len() - 1
    });
    let known = &mut events[position];
    let sum = if arm == Arm::Canary { &mut known.canary_events } else { &mut known.stable_events };
    *sum = sum.saturating_add(count);
}

/// A weight as a probability. Basis points are always one.
fn share(weight: WeightBps) -> Share {
    Share::new(weight.share()).unwrap_or(Share::NONE)
}
