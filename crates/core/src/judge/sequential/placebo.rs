//! How much events come in clusters, shown by stable's replicas among themselves (ANALYSIS 2.8).

use serde::{Deserialize, Serialize};
use serin_stats::{Dispersion, LEAST_PODS, MOST_PODS};

use crate::traffic::{Counts, Observation};

const SECOND_MS: u64 = 1_000;
/// Replicas that have answered nothing for this long are gone.
const FORGET_S: u64 = 120;

/// The dispersion of one metric. Without at least three replicas there is none, and nothing is tempered.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Placebo {
    second: u64,
    /// Stable's replicas with the running second.
    running: Vec<Replica>,
    dispersion: Option<Dispersion>,
    /// What a dispersion of other replicas last said.
    last_eta: Option<f64>,
}

/// Requests and events of a replica in the running second.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Replica {
    id: String,
    load: (u64, u64),
    /// The second in which it last answered anything.
    seen: u64,
}

impl Placebo {
    pub(super) fn observe(&mut self, observation: &Observation, events: impl Fn(&Counts) -> u64) {
        let second = observation.at.0 / SECOND_MS;
        if second != self.second {
            self.close();
            self.second = second;
        }
        for replica in &observation.replicas {
            let (requests, events) = (replica.counts.requests(), events(&replica.counts));
            let known = self.running.iter().position(|known| known.id == replica.id);
            match known {
                Some(position) => {
                    let known = &mut self.running[position];
                    known.load = (known.load.0.saturating_add(requests), known.load.1.saturating_add(events));
                    known.seen = second;
                }
                None if self.running.len() < MOST_PODS => {
                    self.running.push(Replica { id: replica.id.clone(), load: (requests, events), seen: second });
                    self.start_anew();
                }
                None => {}
            }
        }
    }

    /// The tempering for the next batch, from what was seen before it.
    pub(super) fn eta(&self) -> f64 {
        match &self.dispersion {
            Some(dispersion) if dispersion.phi() != 1.0 => dispersion.eta(),
            _ => self.last_eta.unwrap_or(1.0),
        }
    }

    /// Whether stable has too few replicas to be a placebo.
    pub(super) fn is_missing(&self) -> bool {
        self.running.len() < LEAST_PODS
    }

    /// Other replicas need another estimate; until it has something to say, the last one holds.
    fn start_anew(&mut self) {
        self.last_eta = Some(self.eta());
        self.dispersion = None;
    }

    fn close(&mut self) {
        let (second, known) = (self.second, self.running.len());
        self.running.retain(|replica| replica.seen + FORGET_S >= second);
        if self.running.len() != known {
            self.start_anew();
        }
        let loads: Vec<(u64, u64)> = self.running.iter_mut().map(|replica| std::mem::take(&mut replica.load)).collect();
        if self.is_missing() {
            return;
        }
        if self.dispersion.is_none() {
            self.dispersion = Dispersion::new(loads.len()).ok();
        }
        if let Some(dispersion) = &mut self.dispersion {
            // As many as at its construction: a new replica makes a new one.
            let _ = dispersion.add_second(&loads);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Timestamp,
        traffic::{Outcome, ReplicaCell},
    };

    #[test]
    fn a_second_counts_for_itself_also_while_there_are_too_few_replicas() {
        let mut counts = Counts::default();
        counts.by_outcome[Outcome::Success.index()] = 100;
        let cell = |id: &str| ReplicaCell { id: id.to_owned(), counts: counts.clone() };
        let mut placebo = Placebo::default();
        for second in 0..10 {
            let observation =
                Observation { at: Timestamp(second * SECOND_MS), replicas: vec![cell("a"), cell("b")], ..Observation::default() };
            placebo.observe(&observation, Counts::errors);
        }
        assert!(placebo.is_missing() && placebo.running.iter().all(|replica| replica.load == (100, 0)), "{placebo:?}");
    }
}
