//! A row as a JSON object.

use serde_json::{Map, Value};

use super::row::{self, Fields, Row, short};

/// The fields that there are.
const FIELDS: &str = "at, arm, weight, requests, errors, clientErrors, errorClasses, latencyMs, cpu, memory";
/// The most kinds of errors in one row; the judge keeps fewer apart.
const MAX_CLASSES: usize = 1_000;

/// Reads a row.
pub(super) fn row(text: &str) -> Result<Row, String> {
    let expected = "expected an object such as {\"at\": 10, \"arm\": \"canary\", \"requests\": 120, \"errors\": 2}";
    let value: Value = serde_json::from_str(text).map_err(|error| {
        let error = error.to_string().replace(" at line 1 column ", ", column ");
        format!("not JSON: {error}; {expected}")
    })?;
    let Value::Object(object) = value else { return Err(format!("not an object; {expected}")) };
    let mut fields = Fields::default();
    for (name, value) in &object {
        // `null` is what exporters write for a value that is missing.
        if !value.is_null() || !is_known(name) {
            field(&mut fields, name, value)?;
        }
    }
    fields.row()
}

fn is_known(name: &str) -> bool {
    FIELDS.split(", ").any(|known| known == name)
}

fn field(fields: &mut Fields, name: &str, value: &Value) -> Result<(), String> {
    match name {
        "at" => {
            fields.at = Some(match value {
                Value::String(text) => row::time(text)?,
                _ => row::seconds(number(name, value)?)?,
            });
        }
        "arm" => fields.arm = Some(row::arm(value.as_str().unwrap_or(&value.to_string()))?),
        "weight" => fields.weight = Some(row::weight(number(name, value)?)?),
        "requests" => fields.requests = Some(count(name, value)?),
        "errors" => fields.errors = Some(count(name, value)?),
        "clientErrors" => fields.client_errors = Some(count(name, value)?),
        "errorClasses" => {
            let wrong = || format!("`errorClasses` is {}; expected an object such as {{\"503 GET /a\": 2}}", short(&value.to_string()));
            let classes = value.as_object().ok_or_else(wrong)?;
            if classes.len() > MAX_CLASSES {
                return Err(format!("`errorClasses` has {} kinds of errors; expected at most {MAX_CLASSES}", classes.len()));
            }
            for (class, value) in classes {
                let _ = fields.classes.insert(class.clone(), count(&short(class), value)?);
            }
        }
        "latencyMs" => fields.latencies = latencies(value)?,
        "cpu" => fields.cpu = Some(row::gauge(name, number(name, value)?)?),
        "memory" => fields.memory = Some(row::gauge(name, number(name, value)?)?),
        _ => return Err(format!("unknown field `{}`; expected {FIELDS}", short(name))),
    }
    Ok(())
}

/// Latencies one by one, or a histogram whose counts are cumulative: so many took at most `le` milliseconds.
fn latencies(value: &Value) -> Result<Vec<(f64, u64)>, String> {
    let wrong = || {
        let found = short(&value.to_string());
        format!("`latencyMs` is {found}; expected a list of milliseconds or {{\"histogram\": [{{\"le\": 100, \"count\": 20}}, …]}}")
    };
    match value {
        Value::Array(samples) => samples.iter().map(|sample| Ok((row::gauge("latencyMs", number("latencyMs", sample)?)?, 1))).collect(),
        Value::Object(object) => match (object.len(), object.get("histogram")) {
            (1, Some(Value::Array(buckets))) => histogram(buckets),
            _ => Err(wrong()),
        },
        _ => Err(wrong()),
    }
}

fn histogram(buckets: &[Value]) -> Result<Vec<(f64, u64)>, String> {
    let mut latencies = Vec::with_capacity(buckets.len());
    let (mut last_le, mut last_count) = (0.0, 0);
    for bucket in buckets {
        let (le, count) = bucket
            .as_object()
            .and_then(edge)
            .ok_or_else(|| format!("a bucket of `latencyMs` is {}; expected {{\"le\": 100, \"count\": 20}}", short(&bucket.to_string())))?;
        let count = self::count("count", count)?;
        let le = match le {
            Value::String(text) if text == "+Inf" => f64::INFINITY,
            le => row::gauge("le", number("le", le)?)?,
        };
        if le <= last_le {
            return Err("the buckets of `latencyMs` are not in the order of `le`; expected edges above 0 that rise".to_owned());
        }
        if count < last_count {
            return Err(format!(
                "the count at `le` {le} is {count}, below the {last_count} of the bucket before; expected cumulative counts as Prometheus has them"
            ));
        }
        // A bucket counts at its upper edge; what is beyond the last one as just above it.
        let edge = if le.is_finite() { le } else { last_le * 1.05 };
        latencies.push((edge, count - last_count));
        (last_le, last_count) = (le, count);
    }
    Ok(latencies)
}

fn edge(bucket: &Map<String, Value>) -> Option<(&Value, &Value)> {
    (bucket.len() == 2).then(|| bucket.get("le").zip(bucket.get("count"))).flatten()
}

fn count(name: &str, value: &Value) -> Result<u64, String> {
    row::count(name, number(name, value)?)
}

fn number(name: &str, value: &Value) -> Result<f64, String> {
    value.as_f64().ok_or_else(|| format!("`{name}` is {}; expected a number", short(&value.to_string())))
}

#[cfg(test)]
mod tests {
    use serin_core::{
        WeightBps,
        traffic::{Arm, Outcome},
    };

    use super::*;

    #[test]
    fn a_full_row() {
        let row = row(r#"{"at": "1970-01-01T00:00:10.5Z", "arm": "canary", "weight": 2.5, "requests": 9, "errors": 2, "clientErrors": 1,
               "errorClasses": {"503 GET /a": 2}, "latencyMs": [12.1, 900], "cpu": 31.5, "memory": 1e8}"#)
        .unwrap();
        assert_eq!((row.at.0, row.arm, row.weight), (10_500, Arm::Canary, Some(WeightBps::new(250).unwrap())));
        assert_eq!((row.counts.requests(), row.counts.errors(), row.counts.of(Outcome::ClientError)), (9, 2, 1));
        assert_eq!((row.counts.latency.total(), row.counts.latency.count_at_or_above_us(500_000)), (2, 1));
        assert_eq!((row.counts.error_classes["503 GET /a"], row.cpu_percent, row.memory_bytes), (2, Some(31.5), Some(1e8)));
    }

    #[test]
    fn histograms_are_cumulative_and_beyond_the_last_edge_is_above_it() {
        let counted = |buckets: &str| {
            let row = row(&format!(r#"{{"at": 0, "arm": "stable", "requests": 9, "errors": 0, "latencyMs": {{"histogram": {buckets}}}}}"#));
            row.map(|row| [50_000, 90_000, 101_000].map(|edge_us| row.counts.latency.count_at_or_above_us(edge_us)))
        };
        let buckets = r#"[{"le": 50, "count": 3}, {"le": 100, "count": 7}, {"le": "+Inf", "count": 9}]"#;
        assert_eq!(counted(buckets), Ok([6, 6, 2]));
        assert!(counted(r#"[{"le": 50, "count": 3}, {"le": 100, "count": 2}]"#).unwrap_err().contains("cumulative"));
        assert!(counted(r#"[{"le": 50, "count": 3}, {"le": 50, "count": 4}]"#).unwrap_err().contains("order"));
        assert!(counted(r#"[{"le": 50}]"#).unwrap_err().contains("expected {\"le\""));
        assert!(counted(r#"[{"le": 50, "count": 10}]"#).unwrap_err().contains("10 latencies, but only 9"));
    }

    #[test]
    fn what_is_wrong_is_said_with_what_was_expected() {
        for (text, expected) in [
            ("{", "not JSON"),
            ("[]", "not an object"),
            (r#"{"at": 0, "arm": "canary", "requests": NaN, "errors": 0}"#, "not JSON"),
            (r#"{"at": 0, "arm": "blue", "requests": 1, "errors": 0}"#, "`arm` is 'blue'; expected `stable` or `canary`"),
            (r#"{"at": 0, "arm": "canary", "request": 1, "errors": 0}"#, "unknown field `request`; expected at, arm"),
            (r#"{"at": 0, "arm": "canary", "requests": -1, "errors": 0}"#, "`requests` is -1; expected a whole number from 0"),
            (r#"{"at": 0, "arm": "canary", "requests": 1.5, "errors": 0}"#, "`requests` is 1.5"),
            (r#"{"at": 0, "arm": "canary", "requests": "1", "errors": 0}"#, "`requests` is \"1\"; expected a number"),
            (r#"{"at": 0, "arm": "canary", "requests": 1, "errors": 2}"#, "2 errors of 1 requests"),
            (r#"{"at": 0, "arm": "canary", "requests": 1}"#, "`errors` is missing"),
            (r#"{"arm": "canary", "requests": 1, "errors": 0}"#, "`at` is missing"),
            (r#"{"at": "noon", "arm": "canary", "requests": 1, "errors": 0}"#, "2026-01-02T03:04:05Z"),
            (r#"{"at": 1767323045000, "arm": "canary", "requests": 1, "errors": 0}"#, "is it in milliseconds?"),
            (r#"{"at": 0, "arm": "canary", "weight": 101, "requests": 1, "errors": 0}"#, "`weight` is 101"),
            (r#"{"at": 0, "arm": "canary", "weight": 0.001, "requests": 1, "errors": 0}"#, "two decimals"),
            (r#"{"at": 0, "arm": "canary", "requests": 1, "errors": 1, "errorClasses": {"a": 2}}"#, "add up to 2"),
            (r#"{"at": 0, "arm": "canary", "requests": 1, "errors": 0, "latencyMs": [-1]}"#, "`latencyMs` is -1"),
            (r#"{"at": 0, "arm": "canary", "requests": 1, "errors": 0, "cpu": -1}"#, "`cpu` is -1"),
        ] {
            let error = row(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
