//! What `/metrics` shows: requests by status code, their durations, how many are in flight, and what became of the orders of those that
//! were answered well: what no proxy can see.
//!
//! Only app routes count. Probes, scrapes and `/admin` would dilute the error rate that a release is judged by.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::app::lock;

/// Upper edges of the duration buckets in seconds.
const BUCKETS: [f64; 12] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Counters since the start of the process.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    in_flight: AtomicU64,
    by_code: Mutex<BTreeMap<u16, Durations>>,
    orders_placed: AtomicU64,
    orders_lost: AtomicU64,
}

#[derive(Debug, Default)]
struct Durations {
    /// Cumulative, as Prometheus wants them.
    at_or_below: [u64; BUCKETS.len()],
    count: u64,
    sum_seconds: f64,
}

/// Counts a request as in flight until dropped, also when the client goes away.
pub(crate) struct InFlight<'a>(&'a Metrics);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Metrics {
    pub(crate) fn begin(&self) -> InFlight<'_> {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(self)
    }

    /// Counts an answer and the time until its head was ready.
    pub(crate) fn record(&self, code: u16, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let mut by_code = lock(&self.by_code);
        let durations = by_code.entry(code).or_default();
        durations.count += 1;
        durations.sum_seconds += seconds;
        for (count, edge) in durations.at_or_below.iter_mut().zip(BUCKETS) {
            *count += u64::from(seconds <= edge);
        }
    }

    /// Counts the order of a request that was answered well.
    pub(crate) fn record_order(&self, is_lost: bool) {
        let counter = if is_lost { &self.orders_lost } else { &self.orders_placed };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// All counters in the Prometheus text format.
    pub(crate) fn render(&self, version: &str) -> String {
        let mut text = String::from("# HELP http_requests_total Requests answered, without probes.\n# TYPE http_requests_total counter\n");
        let by_code = lock(&self.by_code);
        // Writing into a String cannot fail.
        for (code, durations) in by_code.iter() {
            let _ = writeln!(text, "http_requests_total{{version=\"{version}\",code=\"{code}\"}} {}", durations.count);
        }
        text.push_str("# HELP http_request_duration_seconds Time until the head of the answer was ready.\n");
        text.push_str("# TYPE http_request_duration_seconds histogram\n");
        for (code, durations) in by_code.iter() {
            let labels = format!("version=\"{version}\",code=\"{code}\"");
            for (edge, count) in BUCKETS.iter().zip(durations.at_or_below) {
                let _ = writeln!(text, "http_request_duration_seconds_bucket{{{labels},le=\"{edge}\"}} {count}");
            }
            let _ = writeln!(text, "http_request_duration_seconds_bucket{{{labels},le=\"+Inf\"}} {}", durations.count);
            let _ = writeln!(text, "http_request_duration_seconds_sum{{{labels}}} {}", durations.sum_seconds);
            let _ = writeln!(text, "http_request_duration_seconds_count{{{labels}}} {}", durations.count);
        }
        text.push_str("# HELP orders_total Orders of requests that were answered well.\n# TYPE orders_total counter\n");
        for (result, count) in [("placed", &self.orders_placed), ("lost", &self.orders_lost)] {
            let _ = writeln!(text, "orders_total{{version=\"{version}\",result=\"{result}\"}} {}", count.load(Ordering::Relaxed));
        }
        let in_flight = self.in_flight.load(Ordering::Relaxed);
        text.push_str("# HELP http_requests_in_flight Requests being answered.\n# TYPE http_requests_in_flight gauge\n");
        let _ = writeln!(text, "http_requests_in_flight{{version=\"{version}\"}} {in_flight}");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_shown_by_code_and_in_cumulative_buckets() {
        let metrics = Metrics::default();
        metrics.record(200, Duration::from_millis(3));
        metrics.record(200, Duration::from_millis(300));
        metrics.record(500, Duration::from_secs(60));
        metrics.record_order(true);
        let begun = metrics.begin();
        let text = metrics.render("v2");
        for line in [
            "http_requests_total{version=\"v2\",code=\"200\"} 2",
            "http_requests_total{version=\"v2\",code=\"500\"} 1",
            "http_request_duration_seconds_bucket{version=\"v2\",code=\"200\",le=\"0.005\"} 1",
            "http_request_duration_seconds_bucket{version=\"v2\",code=\"200\",le=\"0.5\"} 2",
            "http_request_duration_seconds_bucket{version=\"v2\",code=\"500\",le=\"10\"} 0",
            "http_request_duration_seconds_bucket{version=\"v2\",code=\"500\",le=\"+Inf\"} 1",
            "http_requests_in_flight{version=\"v2\"} 1",
            "orders_total{version=\"v2\",result=\"lost\"} 1",
            "orders_total{version=\"v2\",result=\"placed\"} 0",
        ] {
            assert!(text.lines().any(|given| given == line), "{line} not in\n{text}");
        }
        drop(begun);
        assert!(metrics.render("v2").contains("http_requests_in_flight{version=\"v2\"} 0"));
    }
}
