//! Over-dispersion: how much events come in clusters, measured where nothing is wrong (ANALYSIS 2.8).
//!
//! A pod that pauses makes many requests slow at once. Those are not independent events, and a test that takes them as such
//! blames the canary for a pause. The stable pods are the placebo: for block lengths of 1, 5, 20 and 60 s,
//!
//! `phi_B = sum_b [sum_p (k_pb - s_pb K_b)^2 / (1 - sum_p s_pb^2)] / sum_b K_b`,
//!
//! with `k_pb` the pod's events, `K_b` those of all pods and `s_pb` the pod's share of the block's requests. Independent events
//! give 1. `phi = max_B phi_B`, and the tests are tempered by `eta = 1/phi` (1 if `phi < 1.2`).
//! An approximation: exact for clusters of size at most `phi`. Use stable pods only, and the value from before the batch.

use serde::{Deserialize, Serialize};

use crate::config::{ConfigError, require};
use crate::exact;

/// Block lengths in seconds.
const BLOCK_SECONDS: [u32; 4] = [1, 5, 20, 60];
/// Fewer stable pods are no placebo.
pub const LEAST_PODS: usize = 3;
/// More pods are to be gathered into slices by a hash.
pub const MOST_PODS: usize = 64;
/// Events that an estimate needs; with fewer the last known value holds.
const LEAST_EVENTS: f64 = 30.0;
/// Below this the events pass as independent.
const TOLERATED_PHI: f64 = 1.2;

/// Requests and events of one stable pod during one second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Load {
    requests: u64,
    events: u64,
}

/// Sums over the finished blocks of one length and the block that is being filled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Scale {
    seconds: u32,
    filled: u32,
    open: Vec<Load>,
    #[serde(with = "exact")]
    scatter: f64,
    #[serde(with = "exact")]
    events: f64,
}

/// The placebo dispersion of one metric. Feed it from ten minutes before the stage on. Allocates at construction only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Dispersion {
    scales: [Scale; 4],
    #[serde(with = "exact")]
    phi: f64,
}

impl Dispersion {
    /// For a fixed number of stable pods or slices; make a new one when it changes.
    ///
    /// # Errors
    /// With fewer than three there is no placebo, and more than 64 are not kept apart.
    pub fn new(pods: usize) -> Result<Self, ConfigError> {
        let expected = "3 to 64 stable pods (with fewer there is no placebo: demand the excess in several separate blocks instead)";
        require((LEAST_PODS..=MOST_PODS).contains(&pods), "stable pods", pods as f64, expected)?;
        let scale = |seconds| Scale { seconds, filled: 0, open: vec![Load::default(); pods], scatter: 0.0, events: 0.0 };
        Ok(Self { scales: BLOCK_SECONDS.map(scale), phi: 1.0 })
    }

    /// Adds one second: requests and events by stable pod, always in the same order.
    ///
    /// # Errors
    /// If the number of pods is not the one given at construction; then nothing changes.
    pub fn add_second(&mut self, pods: &[(u64, u64)]) -> Result<(), ConfigError> {
        let known = self.scales[0].open.len();
        require(pods.len() == known, "stable pods in this second", pods.len() as f64, "as many as at the start")?;
        for scale in &mut self.scales {
            scale.add_second(pods);
        }
        let estimate = self.scales.iter().filter(|scale| scale.events >= LEAST_EVENTS).map(|scale| scale.scatter / scale.events);
        self.phi = estimate.reduce(f64::max).unwrap_or(self.phi);
        Ok(())
    }

    /// The largest dispersion over the block lengths; 1 until there are 30 events.
    #[must_use]
    pub fn phi(&self) -> f64 {
        self.phi
    }

    /// The tempering for the next batch: 1, or `1/phi` from `phi = 1.2` on.
    #[must_use]
    pub fn eta(&self) -> f64 {
        if self.phi < TOLERATED_PHI { 1.0 } else { 1.0 / self.phi }
    }
}

impl Scale {
    fn add_second(&mut self, pods: &[(u64, u64)]) {
        for (load, (requests, events)) in self.open.iter_mut().zip(pods) {
            load.requests = load.requests.saturating_add(*requests);
            load.events = load.events.saturating_add(*events);
        }
        self.filled += 1;
        if self.filled >= self.seconds {
            self.close();
        }
    }

    fn close(&mut self) {
        let requests: f64 = self.open.iter().map(|load| load.requests as f64).sum();
        let events: f64 = self.open.iter().map(|load| load.events as f64).sum();
        let share = |load: &Load| if requests > 0.0 { load.requests as f64 / requests } else { 0.0 };
        let evenness = 1.0 - self.open.iter().map(|load| share(load).powi(2)).sum::<f64>();
        // A block that one pod served alone compares nothing.
        if events > 0.0 && evenness > 1e-9 {
            let scatter: f64 = self.open.iter().map(|load| (load.events as f64 - share(load) * events).powi(2)).sum();
            self.scatter += scatter / evenness;
            self.events += events;
        }
        self.filled = 0;
        self.open.fill(Load::default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_are_seen_at_their_size_and_even_events_are_not() {
        let mut clustered = Dispersion::new(4).unwrap();
        let mut even = Dispersion::new(4).unwrap();
        for second in 0..600_usize {
            let mut pods = [(100, 0); 4];
            if second % 10 == 0 {
                pods[(second / 10) % 4].1 = 12;
            }
            clustered.add_second(&pods).unwrap();
            even.add_second(&[(100, 1); 4]).unwrap();
        }
        assert!((clustered.phi() - 12.0).abs() < 1.0, "{}", clustered.phi());
        assert!((clustered.eta() - 1.0 / clustered.phi()).abs() < 1e-12);
        assert!(even.phi() < 0.1 && even.eta() == 1.0);
    }

    #[test]
    fn too_few_pods_or_events_say_nothing() {
        assert!(Dispersion::new(2).unwrap_err().to_string().contains("placebo"));
        assert!(Dispersion::new(65).is_err());
        let mut dispersion = Dispersion::new(3).unwrap();
        dispersion.add_second(&[(10, 9), (10, 0), (10, 0)]).unwrap();
        assert_eq!(dispersion.eta(), 1.0);
        assert!(dispersion.add_second(&[(10, 9)]).is_err());
    }
}
