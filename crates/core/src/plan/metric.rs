//! The metrics that Serin measures itself, and those that others measure.

use serde::{Deserialize, Serialize};

use super::{ExternalKind, ExternalMetric};
use crate::Unit;

/// A metric, measured for each arm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// Share of requests that are [errors](crate::traffic::Outcome::is_error).
    ErrorRate,
    /// Share of requests answered 5xx by the version.
    ServerErrorRate,
    /// Share of requests answered 4xx.
    ClientErrorRate,
    /// A quantile of the latency of requests that are not errors.
    Latency(Quantile),
    /// The latency as a whole: the median, p90 and p99 together. The sequential judge only.
    LatencyAny,
    /// Requests per second.
    RequestRate,
    /// CPU time in percent of one core, mean per replica.
    Cpu,
    /// Resident memory in bytes, mean per replica.
    Memory,
    /// Restarts after crashes.
    Restarts,
    /// What a source outside of Serin measures.
    External(ExternalMetric),
}

/// The latency quantiles on offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quantile {
    /// The median.
    P50,
    /// 90 % are faster.
    P90,
    /// 95 % are faster.
    P95,
    /// 99 % are faster.
    P99,
}

impl Quantile {
    /// The quantile as a probability.
    #[must_use]
    pub fn q(self) -> f64 {
        match self {
            Self::P50 => 0.50,
            Self::P90 => 0.90,
            Self::P95 => 0.95,
            Self::P99 => 0.99,
        }
    }
}

/// Where a metric's values come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricSource {
    /// The proxy's counters.
    Traffic,
    /// The processes that Serin runs.
    Processes,
    /// A source outside of Serin, which is polled.
    External,
}

impl Metric {
    /// Every built-in metric.
    pub const ALL: [Self; 12] = [
        Self::ErrorRate,
        Self::ServerErrorRate,
        Self::ClientErrorRate,
        Self::Latency(Quantile::P50),
        Self::Latency(Quantile::P90),
        Self::Latency(Quantile::P95),
        Self::Latency(Quantile::P99),
        Self::LatencyAny,
        Self::RequestRate,
        Self::Cpu,
        Self::Memory,
        Self::Restarts,
    ];

    /// The names of [`ALL`](Self::ALL).
    #[must_use]
    pub fn builtin_names() -> [&'static str; 12] {
        Self::ALL.map(Self::builtin_name)
    }

    /// The name in documents and output.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::External(external) => external.name.as_str(),
            builtin => builtin.builtin_name(),
        }
    }

    fn builtin_name(self) -> &'static str {
        match self {
            Self::ErrorRate => "error-rate",
            Self::ServerErrorRate => "5xx-rate",
            Self::ClientErrorRate => "4xx-rate",
            Self::Latency(Quantile::P50) => "latency-p50",
            Self::Latency(Quantile::P90) => "latency-p90",
            Self::Latency(Quantile::P95) => "latency-p95",
            Self::Latency(Quantile::P99) => "latency-p99",
            Self::LatencyAny => "latency-any",
            Self::RequestRate => "request-rate",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Restarts => "restarts",
            Self::External(_) => "external",
        }
    }

    /// The built-in metric of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|metric| metric.name() == name)
    }

    /// The unit of its values.
    #[must_use]
    pub fn unit(self) -> Unit {
        match self {
            Self::ErrorRate | Self::ServerErrorRate | Self::ClientErrorRate => Unit::Share,
            Self::Latency(_) | Self::LatencyAny => Unit::Milliseconds,
            Self::RequestRate => Unit::PerSecond,
            Self::Cpu => Unit::CpuPercent,
            Self::Memory => Unit::Bytes,
            Self::Restarts => Unit::Count,
            Self::External(external) => match external.kind {
                ExternalKind::Ratio => Unit::Share,
                ExternalKind::Value => Unit::Number,
            },
        }
    }

    /// Whether it is made of requests of which each counts on its own: a rate or a latency. The sequential judge weighs
    /// these as evidence.
    #[must_use]
    pub fn is_evidence(self) -> bool {
        matches!(self.unit(), Unit::Share | Unit::Milliseconds)
    }

    /// Whether it is a quantity that is measured again and again: CPU, memory, and values of other sources.
    #[must_use]
    pub fn is_gauge(self) -> bool {
        matches!(self, Self::Cpu | Self::Memory | Self::External(ExternalMetric { kind: ExternalKind::Value, .. }))
    }

    /// The metric of another source, if it is one.
    #[must_use]
    pub fn external(&self) -> Option<&ExternalMetric> {
        match self {
            Self::External(external) => Some(external),
            _ => None,
        }
    }

    /// Where its values come from.
    #[must_use]
    pub fn source(self) -> MetricSource {
        match self {
            Self::Cpu | Self::Memory | Self::Restarts => MetricSource::Processes,
            Self::External(_) => MetricSource::External,
            _ => MetricSource::Traffic,
        }
    }
}
