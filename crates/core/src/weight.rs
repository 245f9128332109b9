//! The canary's share of traffic.

use serde::{Deserialize, Serialize};

/// The canary's share in basis points: 0 (none) to 10,000 (all). Stable has the rest, so that the two always make the whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct WeightBps(u16);

/// A share above the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("weight of {0} basis points is above 10,000 (100 %)")]
pub struct WeightError(pub u16);

impl WeightBps {
    /// No traffic to the canary.
    pub const ZERO: Self = Self(0);
    /// All traffic to the canary.
    pub const FULL: Self = Self(10_000);

    /// A share in basis points.
    ///
    /// # Errors
    /// If it is above 10,000.
    pub fn new(bps: u16) -> Result<Self, WeightError> {
        if bps > Self::FULL.0 { Err(WeightError(bps)) } else { Ok(Self(bps)) }
    }

    /// The canary's share, 0 to 10,000.
    #[must_use]
    pub fn canary_bps(self) -> u16 {
        self.0
    }

    /// Stable's share, 10,000 less the canary's.
    #[must_use]
    pub fn stable_bps(self) -> u16 {
        Self::FULL.0 - self.0
    }

    /// The canary's share as a probability, 0 to 1.
    #[must_use]
    pub fn share(self) -> f64 {
        f64::from(self.0) / 10_000.0
    }

    /// Whether the canary gets nothing.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.0 == 0
    }
}

impl TryFrom<u16> for WeightBps {
    type Error = WeightError;
    fn try_from(bps: u16) -> Result<Self, WeightError> {
        Self::new(bps)
    }
}

impl From<WeightBps> for u16 {
    fn from(weight: WeightBps) -> Self {
        weight.0
    }
}

/// Percent with as many decimals as it has: `5 %`, `0.5 %`, `12.34 %`.
impl std::fmt::Display for WeightBps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (whole, part) = (self.0 / 100, self.0 % 100);
        match (part, part % 10) {
            (0, _) => write!(f, "{whole} %"),
            (_, 0) => write!(f, "{whole}.{} %", part / 10),
            _ => write!(f, "{whole}.{part:02} %"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_as_percent_with_the_decimals_it_has() {
        for (bps, expected) in [(0, "0 %"), (500, "5 %"), (50, "0.5 %"), (1234, "12.34 %"), (5, "0.05 %"), (10_000, "100 %")] {
            assert_eq!(WeightBps::new(bps).unwrap().to_string(), expected);
        }
    }

    #[test]
    fn more_than_everything_is_refused_also_when_read_back() {
        assert_eq!(WeightBps::new(10_001), Err(WeightError(10_001)));
        assert!(serde_json::from_str::<WeightBps>("10001").is_err());
    }
}
