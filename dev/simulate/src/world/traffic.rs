//! What clients send, who answers it how, and what of that is reported.

use serin_core::{
    Timestamp,
    release::Input,
    traffic::{Arm, Assignment, Counts, Observation, Outcome, Sessions, TrafficCell},
};

use super::{Sim, routers::Router};
use crate::{random::Random, scenario::Kind};

/// Traffic as far as it goes on between looks.
#[derive(Debug)]
pub(super) struct Traffic {
    random: Random,
    observed_ms: u64,
    /// Not yet handed over.
    held: Vec<Observation>,
}

impl Traffic {
    pub(super) fn new(seed: u64) -> Self {
        Self { random: Random::new(seed, 20), observed_ms: 0, held: Vec::new() }
    }
}

impl Sim {
    /// What the checks of a preview show, as long as anybody asks.
    pub(super) fn previews(&mut self) -> Vec<Input> {
        let Some(process) = &self.process else { return Vec::new() };
        let checks: Vec<_> = process.release.preview_checks().iter().map(|check| check.name.clone()).collect();
        let is_open = self.routers.iter().any(|router| router.preview);
        let [.., errors] = self.error_rates();
        let mut inputs = Vec::new();
        for check in checks {
            let fails = !is_open || self.traffic.random.chance(errors);
            let result = if fails { Err("answered 500".to_owned()) } else { Ok(()) };
            if !self.has(Kind::SourceSilent) {
                inputs.push(Input::PreviewSeen { check, result });
            }
        }
        inputs
    }

    /// What there is to report now, in the order in which it arrives.
    pub(super) fn reports(&mut self) -> Vec<Input> {
        let observation = self.observation();
        if self.has(Kind::SourceSilent) {
            return Vec::new();
        }
        let mut inputs = Vec::new();
        if self.has(Kind::SourceBursts) && self.traffic.held.len() < 8 && self.traffic.random.chance(0.8) {
            self.traffic.held.push(observation);
            return inputs;
        }
        inputs.extend(std::mem::take(&mut self.traffic.held).into_iter().map(Input::Observed));
        if self.has(Kind::SourceDoubles) {
            inputs.push(Input::Observed(observation.clone()));
        }
        inputs.push(Input::Observed(observation));
        for index in 0..self.routers.len() {
            let weight = self.seen_in_passing(index);
            inputs.push(Input::RouterSeen { target: self.routers[index].name.clone(), weight });
        }
        inputs
    }

    fn observation(&mut self) -> Observation {
        let seconds = (self.now_ms - self.traffic.observed_ms) as f64 / 1_000.0;
        self.traffic.observed_ms = self.now_ms;
        let [stable, canary, matched] = self.error_rates();
        let quiet = if self.has(Kind::TrafficGone) { 0.02 } else { 1.0 };
        let jump = if self.has(Kind::SourceJumps) && self.traffic.random.chance(0.3) { 50.0 } else { 1.0 };
        let mut cells = Vec::new();
        for index in 0..self.routers.len() {
            let Router { weight, matches, preview, .. } = self.routers[index];
            let mut share = weight.share();
            if self.has(Kind::SplitWrong) && share > 0.0 && share < 1.0 {
                share = if share < 0.5 { share + 0.3 } else { share - 0.3 };
            }
            let assignment = match share {
                share if share <= 0.0 || share >= 1.0 => Assignment::Forced,
                _ if self.scenario.plan.sticky => Assignment::Sticky,
                _ => Assignment::Random,
            };
            let requests = self.scenario.rps * seconds * quiet * jump;
            let random = &mut self.traffic.random;
            let mut cell = |arm, assignment, mean: f64, errors: f64| {
                let requests = random.rounded(mean);
                if requests > 0 {
                    let counts = counts(random, requests, errors);
                    let sessions = (assignment == Assignment::Sticky).then(|| sessions(&counts));
                    cells.push(TrafficCell { weight, arm, assignment, counts, sessions });
                }
            };
            cell(Arm::Stable, assignment, requests * (1.0 - share), stable);
            cell(Arm::Canary, assignment, requests * share, canary);
            if matches {
                cell(Arm::Canary, Assignment::Matched, self.scenario.matched_rps * seconds * quiet, matched);
            }
            if preview {
                cell(Arm::Canary, Assignment::Preview, self.scenario.preview_rps * seconds * quiet, matched);
            }
        }
        let at = self.clock.read(self.now_ms);
        // The source has a clock of its own.
        let at = if self.has(Kind::ClockForward) { Timestamp(at.0 + 5_000) } else { at };
        Observation { at, cells, ..Observation::default() }
    }

    /// Shares of failing requests: stable's, the canary's, and the matched ones'.
    fn error_rates(&self) -> [f64; 3] {
        let base = 0.004;
        let mut stable = if self.has(Kind::StableBad) { 0.2 } else { base };
        let mut canary: f64 = match self.how(Kind::CanaryBad) {
            Some(how) if how < 0.3 => 0.03,
            Some(how) if how < 0.6 => 0.3,
            Some(_) => 1.0,
            None => base,
        };
        if self.has(Kind::SharedHarm) && self.routers.iter().any(|router| router.matches || router.preview || !router.weight.is_zero()) {
            (stable, canary) = (0.3, canary.max(0.3));
        }
        if !self.versions.stable_serves(self.has(Kind::StableGone)) {
            stable = 1.0;
        }
        if !self.versions.canary_serves() || self.has(Kind::CanaryCrashes) {
            canary = 1.0;
        }
        [stable, canary, canary]
    }
}

/// Every request is another client's, so that each failure is a client's first.
fn sessions(counts: &Counts) -> Sessions {
    let mut errors = counts.clone();
    for outcome in Outcome::ALL.into_iter().filter(|outcome| !outcome.is_error()) {
        errors.by_outcome[outcome.index()] = 0;
    }
    Sessions { first: counts.clone(), errors }
}

fn counts(random: &mut Random, requests: u64, errors: f64) -> Counts {
    let failed = random.rounded(requests as f64 * errors).min(requests);
    let mut counts = Counts::default();
    counts.by_outcome[Outcome::Success.index()] = requests - failed;
    counts.by_outcome[Outcome::ServerError.index()] = failed;
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failing_clients_of_sticky_traffic_are_seen_to_fail() {
        let counts = counts(&mut Random::new(1, 20), 1_000, 0.3);
        let seen = sessions(&counts);
        assert_eq!((seen.first.requests(), seen.errors.errors(), seen.errors.requests()), (1_000, counts.errors(), counts.errors()));
        assert!(counts.errors() > 0);
    }
}
