//! How much events come in clusters, shown by stable's replicas among themselves (ANALYSIS 2.8).

use serde::{Deserialize, Serialize};
use serin_stats::{Dispersion, LEAST_PODS, MOST_PODS};

use crate::traffic::{Counts, Observation};

/// Replicas are known after this long.
const SECOND_MS: u64 = 1_000;

/// The dispersion of one metric. Without at least three replicas there is none, and nothing is tempered.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Placebo {
    second: u64,
    /// Requests and events of the running second by replica.
    running: Vec<(String, (u64, u64))>,
    dispersion: Option<Dispersion>,
    /// What a dispersion of other replicas last said.
    last_eta: Option<f64>,
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
            let known = self.running.iter().position(|(id, _)| *id == replica.id);
            match known {
                Some(position) => {
                    let sum = &mut self.running[position].1;
                    *sum = (sum.0.saturating_add(requests), sum.1.saturating_add(events));
                }
                None if self.running.len() < MOST_PODS => {
                    self.running.push((replica.id.clone(), (requests, events)));
                    self.last_eta = Some(self.eta());
                    self.dispersion = None;
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

    fn close(&mut self) {
        if self.is_missing() {
            return;
        }
        if self.dispersion.is_none() {
            self.dispersion = Dispersion::new(self.running.len()).ok();
        }
        let loads: Vec<(u64, u64)> = self.running.iter().map(|(_, load)| *load).collect();
        if let Some(dispersion) = &mut self.dispersion {
            // As many as at its construction: a new replica makes a new one.
            let _ = dispersion.add_second(&loads);
        }
        self.running.iter_mut().for_each(|(_, load)| *load = (0, 0));
    }
}
