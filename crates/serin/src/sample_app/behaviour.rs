//! How the app behaves at the moment, as options and `/admin/behaviour` say it.

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

/// No answer is delayed longer than an hour.
const LONGEST_LATENCY_MS: u64 = 3_600_000;

/// The 99th percentile of the standard normal distribution.
const NORMAL_P99: f64 = 2.326_347_874_040_841;

/// What happens to requests as a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// They are answered.
    #[default]
    Ok,
    /// They are read and never answered, health checks included.
    Hang,
    /// They are answered with bytes that are not HTTP.
    Garbage,
    /// The connection is reset once a request has been read.
    Reset,
    /// The process ends at once.
    Crash,
}

/// The current behaviour. Absent fields of a document have the values of an app without faults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Behaviour {
    /// Share of requests answered with an error, 0 to 1.
    pub(crate) error_rate: f64,
    /// The status code of those errors, 400 to 599.
    pub(crate) error_code: u16,
    /// If set, only requests for this path fail, without its query.
    pub(crate) error_path: Option<String>,
    /// Share of requests that are never answered, 0 to 1. Their connections stay open until the client goes.
    pub(crate) hang_rate: f64,
    /// Share of requests whose order is lost although they are answered as they should be, 0 to 1.
    pub(crate) lost_rate: f64,
    /// How long an answer takes; the median if `latency_p99_ms` is set.
    pub(crate) latency_ms: u64,
    /// Up to this much more, evenly spread.
    pub(crate) jitter_ms: u64,
    /// If set, the latency is log-normal with this 99th percentile.
    pub(crate) latency_p99_ms: Option<u64>,
    pub(crate) mode: Mode,
    /// What `/health` says.
    pub(crate) healthy: bool,
    /// What `/ready` says.
    pub(crate) ready: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            error_rate: 0.0,
            error_code: 500,
            error_path: None,
            hang_rate: 0.0,
            lost_rate: 0.0,
            latency_ms: 0,
            jitter_ms: 0,
            latency_p99_ms: None,
            mode: Mode::Ok,
            healthy: true,
            ready: true,
        }
    }
}

/// A change that the schedule makes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Change {
    /// The app becomes ready.
    Ready,
    /// The mode changes.
    Mode(Mode),
    /// Errors or latency become these; an absent one stays as it is.
    Worse { error_rate: Option<f64>, latency_ms: Option<u64> },
}

impl Behaviour {
    /// Checks ranges and combinations.
    ///
    /// # Errors
    /// A sentence that says what was expected.
    pub(crate) fn check(&self) -> Result<(), String> {
        for (name, share) in [("error_rate", self.error_rate), ("hang_rate", self.hang_rate), ("lost_rate", self.lost_rate)] {
            if !(0.0..=1.0).contains(&share) {
                return Err(format!("{name} is a share from 0 to 1, not {share}"));
            }
        }
        if !(400..=599).contains(&self.error_code) {
            return Err(format!("error_code is a status code from 400 to 599, not {}", self.error_code));
        }
        if let Some(path) = &self.error_path
            && !is_path(path)
        {
            return Err(format!("error_path is a path without a query, such as /pay, not '{path}'"));
        }
        for (name, value_ms) in
            [("latency_ms", self.latency_ms), ("jitter_ms", self.jitter_ms), ("latency_p99_ms", self.latency_p99_ms.unwrap_or(0))]
        {
            if value_ms > LONGEST_LATENCY_MS {
                return Err(format!("{name} may be at most {LONGEST_LATENCY_MS} (one hour), not {value_ms}"));
            }
        }
        match self.latency_p99_ms {
            Some(_) if self.latency_ms == 0 => Err("a 99th percentile of the latency needs a median: set the latency as well".to_owned()),
            Some(p99) if p99 < self.latency_ms => {
                Err(format!("the 99th percentile of the latency ({p99} ms) cannot be below its median ({} ms)", self.latency_ms))
            }
            _ => Ok(()),
        }
    }

    /// The behaviour that a JSON document describes in full.
    ///
    /// # Errors
    /// A sentence that says what was expected.
    pub(crate) fn from_json(document: &[u8]) -> Result<Self, String> {
        let behaviour: Self = serde_json::from_slice(document).map_err(|error| error.to_string())?;
        behaviour.check().map(|()| behaviour)
    }

    /// This behaviour with the fields of a JSON object changed; `null` puts a field back to its default.
    ///
    /// # Errors
    /// A sentence that says what was expected.
    pub(crate) fn patched(&self, patch: &[u8]) -> Result<Self, String> {
        let changes: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(patch).map_err(|error| error.to_string())?;
        let mut merged = serde_json::to_value(self).map_err(|error| error.to_string())?;
        if let Some(fields) = merged.as_object_mut() {
            for (name, value) in changes {
                if value.is_null() && fields.contains_key(&name) {
                    fields.remove(&name);
                } else {
                    fields.insert(name, value);
                }
            }
        }
        let behaviour: Self = serde_json::from_value(merged).map_err(|error| error.to_string())?;
        behaviour.check().map(|()| behaviour)
    }

    /// This behaviour after a scheduled change.
    pub(crate) fn changed(&self, change: &Change) -> Self {
        let mut next = self.clone();
        match change {
            Change::Ready => next.ready = true,
            Change::Mode(mode) => next.mode = *mode,
            Change::Worse { error_rate, latency_ms } => {
                next.error_rate = error_rate.unwrap_or(next.error_rate);
                if let Some(latency_ms) = latency_ms {
                    next.latency_ms = *latency_ms;
                    next.latency_p99_ms = None;
                }
            }
        }
        next
    }

    /// Draws how long one answer takes, in seconds.
    pub(crate) fn draw_latency_seconds(&self, rng: &mut impl Rng) -> f64 {
        let median_ms = self.latency_ms as f64;
        let base_ms = match self.latency_p99_ms {
            Some(p99_ms) => median_ms * ((p99_ms as f64 / median_ms).ln() / NORMAL_P99 * standard_normal(rng)).exp(),
            None => median_ms,
        };
        let jitter_ms = self.jitter_ms as f64 * rng.random::<f64>();
        // The tail of the log-normal has no end.
        ((base_ms + jitter_ms) / 1000.0).clamp(0.0, LONGEST_LATENCY_MS as f64 / 1000.0)
    }

    /// Draws whether one request for this path fails.
    pub(crate) fn draw_failure(&self, path: &str, rng: &mut impl Rng) -> bool {
        self.error_path.as_deref().is_none_or(|only| only == path) && draw(self.error_rate, rng)
    }

    /// Draws whether one request is never answered.
    pub(crate) fn draw_hang(&self, rng: &mut impl Rng) -> bool {
        draw(self.hang_rate, rng)
    }

    /// Draws whether the order of one request is lost.
    pub(crate) fn draw_loss(&self, rng: &mut impl Rng) -> bool {
        draw(self.lost_rate, rng)
    }
}

fn draw(share: f64, rng: &mut impl Rng) -> bool {
    share > 0.0 && rng.random::<f64>() < share
}

fn is_path(text: &str) -> bool {
    text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#'))
}

/// Box–Muller; `1 - u` keeps the logarithm away from zero.
fn standard_normal(rng: &mut impl Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{SeedableRng, rngs::StdRng};

    #[test]
    fn a_patch_changes_what_it_names_and_null_resets() {
        let slow = Behaviour { latency_ms: 20, latency_p99_ms: Some(90), ..Behaviour::default() };
        let patched = slow.patched(br#"{"error_rate": 0.2, "latency_p99_ms": null, "mode": "hang"}"#).unwrap();
        assert_eq!(patched, Behaviour { error_rate: 0.2, latency_ms: 20, mode: Mode::Hang, ..Behaviour::default() });
    }

    #[test]
    fn wrong_documents_are_refused_with_a_reason() {
        for (document, part) in [
            (r#"{"error_rat": 0.2}"#, "error_rat"),
            (r#"{"error_rat": null}"#, "error_rat"),
            (r#"{"error_rate": 20}"#, "error_rate is a share from 0 to 1"),
            (r#"{"hang_rate": 1.1}"#, "hang_rate is a share from 0 to 1"),
            (r#"{"error_code": 200}"#, "from 400 to 599"),
            (r#"{"error_path": "pay"}"#, "such as /pay"),
            (r#"{"error_path": "/pay?x=1"}"#, "without a query"),
            (r#"{"latency_ms": 3600001}"#, "one hour"),
            (r#"{"latency_p99_ms": 5}"#, "median"),
            (r#"{"latency_ms": 9, "latency_p99_ms": 5}"#, "below"),
            (r#"{"mode": "sulk"}"#, "sulk"),
            ("[]", "expected"),
        ] {
            let error = Behaviour::default().patched(document.as_bytes()).unwrap_err();
            assert!(error.contains(part), "{document}: {error}");
        }
        assert!(Behaviour::from_json(br#"{"error_rate": -1}"#).is_err());
    }

    #[test]
    fn drawn_latencies_and_errors_have_the_asked_distribution() {
        let behaviour = Behaviour { error_rate: 0.1, hang_rate: 0.05, latency_ms: 20, latency_p99_ms: Some(100), ..Behaviour::default() };
        let mut rng = StdRng::seed_from_u64(7);
        let mut drawn: Vec<f64> = (0..20_000).map(|_| behaviour.draw_latency_seconds(&mut rng) * 1000.0).collect();
        drawn.sort_by(f64::total_cmp);
        assert!((drawn[10_000] / 20.0 - 1.0).abs() < 0.05, "median {}", drawn[10_000]);
        assert!((drawn[19_800] / 100.0 - 1.0).abs() < 0.15, "p99 {}", drawn[19_800]);
        let failures = (0..20_000).filter(|_| behaviour.draw_failure("/", &mut rng)).count();
        assert!((1_850..2_150).contains(&failures), "{failures}");
        let hanging = (0..20_000).filter(|_| behaviour.draw_hang(&mut rng)).count();
        assert!((900..1_100).contains(&hanging), "{hanging}");
    }

    #[test]
    fn errors_of_one_path_spare_the_others() {
        let behaviour = Behaviour { error_rate: 1.0, error_path: Some("/pay".to_owned()), ..Behaviour::default() };
        let mut rng = StdRng::seed_from_u64(7);
        for (path, fails) in [("/pay", true), ("/", false), ("/pay/now", false)] {
            assert_eq!(behaviour.draw_failure(path, &mut rng), fails, "{path}");
        }
    }
}
