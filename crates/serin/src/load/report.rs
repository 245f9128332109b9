//! What is said at the end: one JSON object, or the same as a text for people.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use serde::Serialize;
use serin_core::{Unit, format_value, human_duration};
use serin_stats::Histogram;

use super::{arrivals::Pattern, client::FailureKind, tally::Tally};
use crate::values::ms;

/// The result of a run. Counts are requests, times milliseconds.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) url: String,
    pub(crate) method: String,
    pub(crate) arrivals: Pattern,
    pub(crate) asked_rps: f64,
    /// How long requests were being sent.
    pub(crate) duration_ms: u64,
    pub(crate) ended_by: EndedBy,
    /// Due: `sent + not_sent`.
    pub(crate) scheduled: u64,
    pub(crate) sent: u64,
    /// Due, but beyond the allowed number in flight.
    pub(crate) not_sent: u64,
    /// With a complete answer of any status, those made by the proxy included.
    pub(crate) answered: u64,
    /// Still in flight when the run was cut short.
    pub(crate) unfinished: u64,
    /// Sent again because a kept connection had been closed; no loss.
    pub(crate) reconnected: u64,
    /// Everything in `lost`, added up.
    pub(crate) lost_total: u64,
    pub(crate) lost: Lost,
    /// Without a complete answer in time; not in `lost_total`.
    pub(crate) timeout: u64,
    /// Sent per second.
    pub(crate) sent_rps: f64,
    /// Answered per second.
    pub(crate) achieved_rps: f64,
    pub(crate) body_bytes: u64,
    /// Keys `1xx` to `5xx`; only those that came.
    pub(crate) by_class: BTreeMap<String, u64>,
    pub(crate) by_code: BTreeMap<u16, u64>,
    pub(crate) by_version: BTreeMap<String, u64>,
    /// From due to the last byte; of complete answers and timeouts.
    pub(crate) latency_ms: Quantiles,
    /// From due to sent.
    pub(crate) send_lag_ms: Quantiles,
    /// The first failure of each kind in words.
    pub(crate) examples: BTreeMap<FailureKind, String>,
}

/// What ended the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EndedBy {
    /// Its duration was over.
    Duration,
    /// SIGINT or SIGTERM.
    Signal,
}

/// Lost requests by kind; see [`FailureKind`].
#[derive(Debug, Serialize)]
pub(crate) struct Lost {
    pub(crate) connect: u64,
    pub(crate) reset: u64,
    pub(crate) closed: u64,
    pub(crate) truncated: u64,
    pub(crate) invalid: u64,
    /// 502, 503 or 504 with the header `x-serin-error`.
    pub(crate) made_by_proxy: u64,
}

/// Quantiles in milliseconds, off by at most 1.6 % (`max` is exact); `null` if there are no values.
#[derive(Debug, Serialize)]
pub(crate) struct Quantiles {
    pub(crate) count: u64,
    pub(crate) p50: Option<f64>,
    pub(crate) p90: Option<f64>,
    pub(crate) p95: Option<f64>,
    pub(crate) p99: Option<f64>,
    #[serde(rename = "p99.9")]
    pub(crate) p999: Option<f64>,
    pub(crate) max: Option<f64>,
}

/// What was asked, for the report.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) url: String,
    pub(crate) method: String,
    pub(crate) arrivals: Pattern,
    pub(crate) rps: f64,
}

impl Report {
    pub(crate) fn new(asked: Asked, tally: &Tally, duration: Duration, ended_by: EndedBy) -> Self {
        let per_second = |count: u64| if duration.is_zero() { 0.0 } else { count as f64 / duration.as_secs_f64() };
        let mut by_class: BTreeMap<String, u64> = BTreeMap::new();
        for (code, count) in &tally.by_code {
            *by_class.entry(format!("{}xx", code / 100)).or_default() += count;
        }
        Self {
            url: asked.url,
            method: asked.method,
            arrivals: asked.arrivals,
            asked_rps: asked.rps,
            duration_ms: ms(duration),
            ended_by,
            scheduled: tally.sent + tally.not_sent,
            sent: tally.sent,
            not_sent: tally.not_sent,
            answered: tally.answered,
            unfinished: tally.in_flight(),
            reconnected: tally.reconnected,
            lost_total: tally.lost(),
            lost: Lost {
                connect: tally.failed(FailureKind::Connect),
                reset: tally.failed(FailureKind::Reset),
                closed: tally.failed(FailureKind::Closed),
                truncated: tally.failed(FailureKind::Truncated),
                invalid: tally.failed(FailureKind::Invalid),
                made_by_proxy: tally.made_by_proxy,
            },
            timeout: tally.failed(FailureKind::Timeout),
            sent_rps: per_second(tally.sent),
            achieved_rps: per_second(tally.answered),
            body_bytes: tally.body_bytes,
            by_class,
            by_code: tally.by_code.clone(),
            by_version: tally.by_version.clone(),
            latency_ms: Quantiles::of(&tally.latency, tally.latency_max_us),
            send_lag_ms: Quantiles::of(&tally.lag, tally.lag_max_us),
            examples: tally.examples.clone(),
        }
    }

    /// The report for people, without a line end.
    pub(crate) fn text(&self) -> String {
        let mut lines = Lines::default();
        let early = if self.ended_by == EndedBy::Signal { ", ended by a signal" } else { "" };
        let asked = format_value(self.asked_rps, Unit::PerSecond);
        lines.heading(&format!("{} {} at {asked} for {}{early}", self.method, self.url, human_duration(self.duration_ms)));
        lines.row("sent", &format!("{} ({})", self.sent, format_value(self.sent_rps, Unit::PerSecond)));
        lines.row("answered", &format!("{} ({})", self.answered, format_value(self.achieved_rps, Unit::PerSecond)));
        lines.row("lost", &self.lost_total.to_string());
        for (name, count) in self.lost.named() {
            lines.part(name, count);
        }
        lines.row("timed out", &self.timeout.to_string());
        lines.row_unless_zero("not sent", self.not_sent, "too many in flight, see --max-in-flight");
        lines.row_unless_zero("unfinished", self.unfinished, "in flight when the run was cut short");
        lines.row_unless_zero("reconnected", self.reconnected, "the server had closed a kept connection; not a loss");
        lines.group("status", self.by_code.iter().map(|(code, count)| (code.to_string(), *count)));
        lines.group("version", self.by_version.iter().map(|(version, count)| (version.clone(), *count)));
        lines.row("latency", &self.latency_ms.text());
        lines.row("send lag", &self.send_lag_ms.text());
        for (kind, example) in &self.examples {
            lines.row("first", &format!("{}: {example}", kind.word()));
        }
        lines.text
    }

    /// Whether every request that was sent came back with an answer from the app.
    pub(crate) fn is_clean(&self) -> bool {
        self.lost_total == 0 && self.timeout == 0
    }
}

impl Lost {
    fn named(&self) -> [(&'static str, u64); 6] {
        [
            ("not connected", self.connect),
            ("reset", self.reset),
            ("closed without answer", self.closed),
            ("truncated", self.truncated),
            ("not HTTP", self.invalid),
            ("error made by the proxy", self.made_by_proxy),
        ]
    }
}

impl FailureKind {
    fn word(self) -> &'static str {
        match self {
            Self::Connect => "not connected",
            Self::Reset => "reset",
            Self::Closed => "closed without answer",
            Self::Truncated => "truncated",
            Self::Invalid => "not HTTP",
            Self::Timeout => "timed out",
        }
    }
}

impl Quantiles {
    fn of(histogram: &Histogram, max_us: u64) -> Self {
        let max_ms = max_us as f64 / 1000.0;
        // A quantile is interpolated within its bin and could exceed the exact maximum.
        let quantile = |q| histogram.quantile_us(q).map(|us| (us / 1000.0).min(max_ms));
        Self {
            count: histogram.total(),
            p50: quantile(0.5),
            p90: quantile(0.9),
            p95: quantile(0.95),
            p99: quantile(0.99),
            p999: quantile(0.999),
            max: (histogram.total() > 0).then_some(max_ms),
        }
    }

    fn text(&self) -> String {
        let named = [("p50", self.p50), ("p90", self.p90), ("p95", self.p95), ("p99", self.p99), ("p99.9", self.p999), ("max", self.max)];
        let shown: Vec<_> = named
            .iter()
            .filter_map(|(name, value)| value.map(|value| format!("{name} {}", format_value(value, Unit::Milliseconds))))
            .collect();
        if shown.is_empty() { "no values".to_owned() } else { shown.join("  ") }
    }
}

/// Lines with a label and a value. Writing into a String cannot fail.
#[derive(Default)]
struct Lines {
    text: String,
}

impl Lines {
    fn heading(&mut self, text: &str) {
        self.text.push_str(text);
    }

    fn row(&mut self, label: &str, value: &str) {
        let _ = write!(self.text, "\n  {label:<12} {value}");
    }

    fn row_unless_zero(&mut self, label: &str, count: u64, why: &str) {
        if count > 0 {
            self.row(label, &format!("{count} ({why})"));
        }
    }

    fn part(&mut self, label: &str, count: u64) {
        if count > 0 {
            let _ = write!(self.text, "\n    {label:<24} {count}");
        }
    }

    fn group(&mut self, label: &str, counts: impl Iterator<Item = (String, u64)>) {
        let shown: Vec<_> = counts.map(|(name, count)| format!("{name} × {count}")).collect();
        if !shown.is_empty() {
            self.row(label, &shown.join("  "));
        }
    }
}
