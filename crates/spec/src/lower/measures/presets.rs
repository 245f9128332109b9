//! Requests as proxies and instrumented services count them.

use crate::{
    diagnostic::quote,
    format,
    lower::Context,
    raw::{self, RequestsOf},
    tree::Path,
    validated::Ask,
};

use super::{MOST_LABELS, template::Variables};

/// How somebody counts requests.
struct Preset {
    /// The counter of all requests.
    all: &'static str,
    /// What picks errors among them.
    errors: &'static str,
    /// What picks requests at all, for errors and durations alike.
    always: &'static str,
    /// The histogram of durations, without `_bucket` and `_count`.
    durations: &'static str,
    /// Milliseconds per unit of its edges.
    unit_ms: f64,
}

fn preset(of: RequestsOf) -> Preset {
    match of {
        RequestsOf::Istio => Preset {
            all: "istio_requests_total",
            errors: r#"response_code=~"5.*""#,
            always: r#"reporter="destination""#,
            durations: "istio_request_duration_milliseconds",
            unit_ms: 1.0,
        },
        RequestsOf::EnvoyGateway => Preset {
            all: "envoy_cluster_upstream_rq_xx",
            errors: r#"envoy_response_code_class="5""#,
            always: "",
            durations: "envoy_cluster_upstream_rq_time",
            unit_ms: 1.0,
        },
        RequestsOf::IngressNginx => Preset {
            all: "nginx_ingress_controller_requests",
            errors: r#"status=~"5..""#,
            always: "",
            durations: "nginx_ingress_controller_request_duration_seconds",
            unit_ms: 1_000.0,
        },
        RequestsOf::Linkerd => Preset {
            all: "response_total",
            errors: r#"classification="failure""#,
            always: r#"direction="inbound""#,
            durations: "response_latency_ms",
            unit_ms: 1.0,
        },
        RequestsOf::Http => Preset {
            all: "http_requests_total",
            errors: r#"code=~"5..""#,
            always: "",
            durations: "http_request_duration_seconds",
            unit_ms: 1_000.0,
        },
    }
}

/// The question for errors, or for slow requests.
pub(super) fn ask(given: &raw::Requests, variables: &Variables, path: &Path, cx: &mut Context<'_>) -> Option<Ask> {
    let preset = preset(given.of);
    let at_labels = path.key("labels");
    let mut labels = Vec::new();
    if !(1..=MOST_LABELS).contains(&given.labels.len()) {
        let message = if given.labels.is_empty() { "nothing tells the versions apart" } else { "these are too many labels" };
        cx.push(cx.error(&at_labels, "no-match", message).expected("1 to 20 labels, such as `version: \"{{arm}}\"`"));
    }
    for (label, value) in &given.labels {
        check_label(label, &at_labels.key(label), cx);
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        labels.push(format!("{label}=\"{value}\""));
    }
    let mut select = |name: &str, own: &str| {
        let all = labels.iter().map(String::as_str).chain([preset.always, own]).filter(|one| !one.is_empty()).collect::<Vec<_>>();
        variables.fill(&format!("{name}{{{}}}", all.join(",")), &at_labels, cx)
    };
    let Some(slower_than) = &given.slower_than else {
        let (all, part) = (select(preset.all, ""), select(preset.all, preset.errors));
        return Some(Ask::Ratio { all, part, part_is_good: false });
    };
    let all = select(&format!("{}_count", preset.durations), "");
    let edge_us = format::duration_us(&slower_than.0).ok()?;
    #[expect(clippy::cast_precision_loss, reason = "a duration of at most a year")]
    let edge = edge_us as f64 / 1_000.0 / preset.unit_ms;
    let part = select(&format!("{}_bucket", preset.durations), &format!("le=~\"{}\"", written(edge)));
    Some(Ask::Ratio { all, part, part_is_good: true })
}

/// Reports what is not a label's name.
pub(super) fn check_label(label: &str, path: &Path, cx: &mut Context<'_>) {
    let is_name = |character: char| character.is_ascii_alphanumeric() || character == '_';
    if label.is_empty() || !label.chars().all(is_name) || label.starts_with(|first: char| first.is_ascii_digit()) {
        let message = format!("{} is not the name of a label", quote(label));
        cx.push(cx.error_at_key(path, "bad-name", message).expected("letters, digits and `_`, such as `destination_workload`"));
    }
}

/// An edge as exporters write it: with or without a decimal part. A pattern, since `.` would match anything.
fn written(edge: f64) -> String {
    let plain = format!("{edge}");
    match plain.split_once('.') {
        Some((whole, part)) => format!("{whole}\\\\.{part}"),
        None => format!("{plain}(\\\\.0)?"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_are_found_however_they_are_written() {
        for (edge, pattern) in [(0.5, r"0\\.5"), (1.0, r"1(\\.0)?"), (250.0, r"250(\\.0)?"), (0.001, r"0\\.001")] {
            assert_eq!(written(edge), pattern);
        }
    }
}
