//! The rules that are compared: ours and those of other tools, each as its documentation or code defines it.
//!
//! A rule sees one second after the other and says when it rolls back. Rules of polled metrics get a perfect pipeline: no scrape
//! delay, no extrapolation, counters that are complete at the moment they are read.

mod argo;
mod event_tests;
mod fixed_checks;
mod flagger;
mod growthbook;
mod kayenta;
mod latency_checks;
mod latency_tests;
mod window;

pub(crate) use argo::Argo;
pub(crate) use event_tests::{LindonMalek, Oracle, Ours, Pace};
pub(crate) use fixed_checks::{PooledZ, SeedCheck};
pub(crate) use flagger::Flagger;
pub(crate) use growthbook::GrowthBook;
pub(crate) use kayenta::Kayenta;
pub(crate) use latency_checks::{LatencyCheck, LatencyKayenta, LatencyLimit};
pub(crate) use latency_tests::{BandTest, LatencyOracle, OurLatency, ScrapedBucket};

use crate::latency::LatencySecond;
use crate::traffic::Second;

/// A rollback rule on errors.
pub(crate) trait Rule {
    /// Whether the moments of single errors are read.
    fn reads_events(&self) -> bool {
        false
    }

    /// Takes one second; the moment of the rollback in seconds since the start of the stage if the rule decides on one. Not called
    /// again after that.
    fn observe(&mut self, second: &Second<'_>) -> Option<f64>;
}

/// A rollback rule on latencies.
pub(crate) trait LatencyRule {
    /// Like [`Rule::observe`].
    fn observe(&mut self, second: &LatencySecond<'_>) -> Option<f64>;
}
