//! Arguments that are checked once, so that updates cannot fail.

use serde::{Deserialize, Serialize};

/// Rates above this leave no room for "more": neither a limit nor a bet lies beyond it.
pub const HIGHEST_RATE: f64 = 0.98;

/// A parameter outside its range.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConfigError {
    /// Which parameter.
    pub parameter: &'static str,
    /// What was given.
    pub value: f64,
    /// What it must be.
    pub expected: &'static str,
}

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} is {}, expected {}", self.parameter, self.value, self.expected)
    }
}

impl std::error::Error for ConfigError {}

/// `Ok(value)` if `valid`, else an error that names the parameter.
pub(crate) fn require(valid: bool, parameter: &'static str, value: f64, expected: &'static str) -> Result<f64, ConfigError> {
    if valid { Ok(value) } else { Err(ConfigError { parameter, value, expected }) }
}

/// `value` if it is a finite number above 0.
pub(crate) fn require_positive(parameter: &'static str, value: f64) -> Result<f64, ConfigError> {
    require(value.is_finite() && value > 0.0, parameter, value, "a finite number above 0")
}

/// `value` if it lies strictly between 0 and 1.
pub(crate) fn require_open_unit(parameter: &'static str, value: f64) -> Result<f64, ConfigError> {
    require(value > 0.0 && value < 1.0, parameter, value, "a number between 0 and 1, both excluded")
}

/// The probability that a request is sent to the canary, 0 to 1.
///
/// Always the one in force when the requests were *assigned* (ANALYSIS 2.2): weights at completion give false alarms after
/// every change of weight.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Share(f64);

impl Share {
    /// Everything to stable.
    pub const NONE: Self = Self(0.0);
    /// Everything to the canary.
    pub const ALL: Self = Self(1.0);

    /// A probability.
    ///
    /// # Errors
    /// If it is not between 0 and 1.
    pub fn new(probability: f64) -> Result<Self, ConfigError> {
        require((0.0..=1.0).contains(&probability), "share", probability, "a probability from 0 to 1").map(Self)
    }

    /// The share that was realised by counters of both arms, for polled sources: `canary / (canary + stable)`.
    /// `None` if either arm had nothing, in which case the batch says nothing about their ratio and is to be skipped.
    #[must_use]
    pub fn realised(canary_requests: u64, stable_requests: u64) -> Option<Self> {
        Self::of_exposure(canary_requests as f64, stable_requests as f64)
    }

    /// The share of exposure, such as pod-seconds for crashes (ANALYSIS 2.6). `None` unless both are finite and above 0.
    #[must_use]
    pub fn of_exposure(canary: f64, stable: f64) -> Option<Self> {
        let valid = canary.is_finite() && stable.is_finite() && canary > 0.0 && stable > 0.0;
        valid.then(|| Self(canary / (canary + stable)))
    }

    /// The probability.
    #[must_use]
    pub fn get(self) -> f64 {
        self.0
    }

    /// Whether both arms can get requests: at 0 and 1 nothing can be compared.
    #[must_use]
    pub fn is_split(self) -> bool {
        self.0 > 0.0 && self.0 < 1.0
    }
}

impl TryFrom<f64> for Share {
    type Error = ConfigError;
    fn try_from(probability: f64) -> Result<Self, ConfigError> {
        Self::new(probability)
    }
}

impl From<Share> for f64 {
    fn from(share: Share) -> Self {
        share.0
    }
}

/// Requests of one arm and how many of them were events (errors, slow requests, conversions, …).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArmCounts {
    /// All of them.
    pub requests: u64,
    /// Those that count, at most `requests`; more are taken as all.
    pub events: u64,
}

impl ArmCounts {
    /// Those that do not count.
    #[must_use]
    pub fn quiet(self) -> u64 {
        self.requests.saturating_sub(self.events)
    }

    /// Adds `other`; saturates.
    pub fn add(&mut self, other: Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.events = self.events.saturating_add(other.events);
    }

    /// The smoothed rate `(events + 0.5) / (requests + 1)` of ANALYSIS 2.11, strictly between 0 and 1.
    #[must_use]
    pub fn smoothed_rate(self) -> f64 {
        (self.events.min(self.requests) as f64 + 0.5) / (self.requests as f64 + 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_probabilities_also_when_read_back() {
        for bad in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert!(Share::new(bad).is_err());
        }
        assert_eq!(Share::new(2.0).unwrap_err().to_string(), "share is 2, expected a probability from 0 to 1");
        assert!(serde_json::from_str::<Share>("1.5").is_err());
        assert_eq!(Share::realised(5, 95).map(Share::get), Some(0.05));
        assert_eq!(Share::realised(0, 95), None);
        assert_eq!(Share::of_exposure(f64::NAN, 1.0), None);
    }

    #[test]
    fn rates_are_never_zero_or_one() {
        assert_eq!(ArmCounts::default().smoothed_rate(), 0.5);
        assert_eq!(ArmCounts { requests: 9, events: 0 }.smoothed_rate(), 0.05);
        assert!(ArmCounts { requests: 9, events: 99 }.smoothed_rate() < 1.0);
    }
}
