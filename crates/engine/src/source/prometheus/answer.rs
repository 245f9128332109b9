//! Answers of Prometheus' query API, and everything that may be wrong with them.
//!
//! A warning is no measurement: systems that put answers together from several parts say by it that a part is missing. Notes about the style of
//! a query (`infos`) are none.

use std::collections::BTreeMap;

use http::StatusCode;
use serde::Deserialize;
use serin_core::traffic::{
    Gap, GapKind,
    align::{MAX_SERIES, Sample},
};

use super::{malformed, short};
use crate::source::Counter;

/// What was asked for.
#[derive(Debug, Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
pub(super) enum Data {
    /// Series with their samples.
    Matrix(Vec<Series>),
    /// Series with a value each.
    Vector(Vec<Instant>),
    /// A single value.
    Scalar(Point),
    /// A text.
    String(#[expect(dead_code, reason = "no question has such an answer")] serde_json::Value),
}

#[derive(Debug, Deserialize)]
pub(super) struct Series {
    metric: BTreeMap<String, String>,
    #[serde(default)]
    values: Vec<Point>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Instant {
    metric: BTreeMap<String, String>,
    /// Absent of native histograms.
    value: Option<Point>,
}

/// Seconds, and the value as text.
#[derive(Debug, Deserialize)]
pub(super) struct Point(f64, String);

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    status: String,
    data: Option<Data>,
    #[serde(default)]
    error_type: String,
    #[serde(default)]
    error: String,
    #[serde(default)]
    warnings: Vec<String>,
}

/// The data of an answer.
pub(super) fn read(status: StatusCode, body: &[u8]) -> Result<Data, Gap> {
    if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
        let text = format!("it answers {status}: see `auth` of the source and whether its secret still counts");
        return Err(Gap { kind: GapKind::Refused, text });
    }
    let answer: Answer = serde_json::from_slice(body).map_err(|_| match status.is_success() {
        true => malformed("the answer is not that of a Prometheus: see `url` of the source"),
        false => Gap { kind: GapKind::Refused, text: format!("it answers {status}") },
    })?;
    if answer.status != "success" {
        let kind = if answer.error_type == "timeout" { GapKind::TimedOut } else { GapKind::Refused };
        return Err(Gap { kind, text: short(&answer.error) });
    }
    if let Some(warning) = answer.warnings.first() {
        return Err(Gap { kind: GapKind::Warnings, text: short(warning) });
    }
    answer.data.ok_or_else(|| malformed("the answer has no data"))
}

impl Data {
    pub(super) fn into_counters(self) -> Result<Vec<Counter>, Gap> {
        let Self::Matrix(series) = self else { return Err(malformed("the answer has no samples")) };
        if series.len() > MAX_SERIES {
            let text = format!("more than {MAX_SERIES} series: name the labels that tell this service from others");
            return Err(malformed(text));
        }
        Ok(series.iter().map(counter).collect())
    }

    pub(super) fn into_value(self, query: &str) -> Result<f64, Gap> {
        let point = match self {
            Self::Scalar(point) => point,
            Self::Vector(mut found) => match (found.len(), found.pop()) {
                (_, None) => return Err(Gap { kind: GapKind::Empty, text: format!("nothing is found by {}", short(query)) }),
                (1, Some(Instant { value: Some(point), .. })) => point,
                (1, Some(_)) => return Err(malformed("the answer is a histogram, not a number")),
                (count, _) => {
                    let text = format!("{count} series are found by {}: sum them up, or name the labels of one", short(query));
                    return Err(Gap { kind: GapKind::SeveralSeries, text });
                }
            },
            Self::Matrix(_) | Self::String(_) => return Err(malformed("the answer is not a number")),
        };
        let value = point.value();
        if value.is_finite() {
            return Ok(value);
        }
        Err(Gap { kind: GapKind::NotANumber, text: format!("{} is found by {}", short(&point.1), short(query)) })
    }

    pub(super) fn into_labels(self) -> Result<Vec<BTreeMap<String, String>>, Gap> {
        match self {
            Self::Vector(found) => Ok(found.into_iter().map(|one| one.metric).collect()),
            _ => Err(malformed("the answer is not a list of alerts")),
        }
    }
}

impl Point {
    /// Not a number if the text is none.
    fn value(&self) -> f64 {
        match self.1.as_str() {
            "+Inf" => f64::INFINITY,
            "-Inf" => f64::NEG_INFINITY,
            text => text.parse().unwrap_or(f64::NAN),
        }
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the conversion saturates")]
    fn sample(&self) -> Sample {
        Sample { at_ms: (self.0 * 1_000.0).round() as u64, value: self.value() }
    }
}

fn counter(series: &Series) -> Counter {
    // What a process is called depends on who scrapes it: in clusters addresses come and go with the names of pods.
    let target = ["pod", "instance"].iter().filter_map(|label| series.metric.get(*label)).map(String::as_str).collect::<Vec<_>>().join(" ");
    let id = series.metric.iter().map(|(label, value)| format!("{label}={value}\n")).collect();
    let mut samples: Vec<Sample> = series.values.iter().map(Point::sample).collect();
    samples.sort_by_key(|sample| sample.at_ms);
    Counter { id, target, samples }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(body: &str) -> Result<f64, GapKind> {
        read(StatusCode::OK, body.as_bytes()).and_then(|data| data.into_value("q")).map_err(|gap| gap.kind)
    }

    fn vector(result: &str) -> String {
        format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{result}]}}}}"#)
    }

    #[test]
    fn each_reason_is_told_from_the_others() {
        let one = r#"{"metric":{},"value":[1,"2.5"]}"#;
        for (body, expected) in [
            (vector(one), Ok(2.5)),
            (r#"{"status":"success","data":{"resultType":"scalar","result":[1,"3"]}}"#.to_owned(), Ok(3.0)),
            (vector(""), Err(GapKind::Empty)),
            (vector(&format!("{one},{one}")), Err(GapKind::SeveralSeries)),
            (vector(r#"{"metric":{},"value":[1,"NaN"]}"#), Err(GapKind::NotANumber)),
            (vector(r#"{"metric":{},"value":[1,"+Inf"]}"#), Err(GapKind::NotANumber)),
            (vector(r#"{"metric":{},"histogram":[1,{}]}"#), Err(GapKind::Malformed)),
            (r#"{"status":"error","errorType":"timeout","error":"query timed out"}"#.to_owned(), Err(GapKind::TimedOut)),
            (r#"{"status":"error","errorType":"bad_data","error":"parse error"}"#.to_owned(), Err(GapKind::Refused)),
            (r#"{"status":"success"}"#.to_owned(), Err(GapKind::Malformed)),
            ("<html>".to_owned(), Err(GapKind::Malformed)),
            (vector(one).replace("\"data\"", "\"warnings\":[\"a store is missing\"],\"data\""), Err(GapKind::Warnings)),
            (vector(one).replace("\"data\"", "\"infos\":[\"no counter by its name\"],\"data\""), Ok(2.5)),
        ] {
            assert_eq!(value(&body), expected, "{body}");
        }
    }

    #[test]
    fn refusals_are_told_by_their_status() {
        for status in [StatusCode::UNAUTHORIZED, StatusCode::BAD_GATEWAY] {
            let gap = read(status, b"nginx").map(drop).unwrap_err();
            assert_eq!(gap.kind, GapKind::Refused);
            assert!(gap.text.contains(status.as_str()), "{}", gap.text);
        }
    }

    #[test]
    fn samples_keep_their_times() {
        let body = r#"{"status":"success","data":{"resultType":"matrix","result":[
            {"metric":{"__name__":"x","instance":"a:1","code":"200"},"values":[[1700000000.123,"7"],[1700000015.123,"9"]]}]}}"#;
        let counters = read(StatusCode::OK, body.as_bytes()).unwrap().into_counters().unwrap();
        let [counter] = counters.as_slice() else { panic!("{counters:?}") };
        assert_eq!(counter.target, "a:1");
        let samples: Vec<(u64, f64)> = counter.samples.iter().map(|sample| (sample.at_ms, sample.value)).collect();
        assert_eq!(samples, [(1_700_000_000_123, 7.0), (1_700_000_015_123, 9.0)]);
    }
}
