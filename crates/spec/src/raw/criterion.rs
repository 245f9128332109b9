//! What must hold for the canary to get more traffic: criteria and guards.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Duration, Name, NumberOrText, Percentage};

/// A rule about one metric: `max`, `min`, `versusStable` or several of them. Breaking any is a breach. When a limit counts as broken depends on
/// the judge.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Criterion {
    /// A declared or built-in metric: error-rate, 5xx-rate, 4xx-rate, latency-p50, latency-p90, latency-p95, latency-p99, latency-any,
    /// request-rate, cpu, memory, restarts.
    pub(crate) metric: String,
    /// Its name in output. Default: that of the metric.
    pub(crate) name: Option<Name>,
    /// The canary's value may not be above this: `5%` for rates, `500ms` for latencies, `100rps`, `70%` of a core, `1GiB`, or a count. Under
    /// `sequential` a rate's is above `0%` and at most `98%`. Not under `kayenta`, where guards keep such limits.
    pub(crate) max: Option<NumberOrText>,
    /// The canary's value may not be below this, in the same unit. Under `sequential` not for rates and latencies, of which less is better; not
    /// under `kayenta`.
    pub(crate) min: Option<NumberOrText>,
    /// How the canary's value may differ from stable's over the same time. It applies in stages below 100 %, where there is a stable to
    /// compare with; of rates and latencies `sequential` goes on at 100 %, with half as much again as stable's last known value. `kayenta` needs
    /// it.
    pub(crate) versus_stable: Option<VersusStable>,
    /// Under `judge: sequential`: when `versusStable` of a rate or latency counts as broken. Default: `limit`.
    pub(crate) mode: Option<Mode>,
    /// A rate's usual value on stable, such as `0.5%`: taken for stable's until stable was seen, and for forecasts. Default: for `error-rate`, `errors` of `analysis.expect`.
    pub(crate) expect: Option<Percentage>,
    /// What a breach does.
    #[schemars(extend("default" = "rollback"))]
    pub(crate) on_breach: Option<OnBreach>,
    /// How much it weighs in the health score.
    #[schemars(extend("default" = "critical"))]
    pub(crate) severity: Option<Severity>,
    /// Under `judge: threshold`: how long a breach must last before it counts. Until then the criterion is undecided. Default: `0s`.
    #[serde(rename = "for")]
    pub(crate) for_: Option<Duration>,
    /// Under `judge: threshold`: in how many evaluations in a row a breach must be seen before it counts. Until then the criterion is undecided. Default: `1`.
    #[schemars(range(min = 1, max = 1000))]
    pub(crate) consecutive: Option<u32>,
    /// Under `judge: threshold`: the criterion fails once a breach was seen in this many evaluations of the stage, in a row or not. Not beside
    /// `consecutive` or `for`.
    #[schemars(range(min = 1, max = 1000))]
    pub(crate) cumulative: Option<u32>,
    /// Under `judge: threshold`: the least number of requests, of the canary and of stable where it is compared. If the window has some but
    /// fewer, the whole stage is looked at; if that has fewer too, the criterion is undecided. Metrics that are not made of requests need none. Default: `20`.
    pub(crate) min_sample: Option<u64>,
}

/// When a comparison of a rate or latency with stable counts as broken.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mode {
    /// Once the canary is surely worse than stable and its value is beyond the limit.
    Limit,
    /// Once the canary is surely worse than stable, by however little. The limit only says what a pass must rule out.
    Harm,
    /// Once the canary is surely beyond the limit, which needs more requests.
    Strict,
}

/// Limits relative to stable, measured over the same time. At least one.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct VersusStable {
    /// The canary's value may be at most this many times stable's; above 1. Under `threshold` and `kayenta` it may be 1; under `kayenta` a metric
    /// whose mean is less than this many times stable's is not higher.
    #[schemars(range(max = 1000), extend("examples" = [1.5]))]
    pub(crate) ratio: Option<f64>,
    /// The canary's value may be at most stable's plus this: `0.5pp` for rates and `cpu`, a duration for latencies, a size for `memory`. Not
    /// under `kayenta`.
    pub(crate) increase: Option<NumberOrText>,
    /// The canary's value may be at most this much lower, in percent of stable's: `2%`. Under `sequential` not for rates and latencies, of
    /// which less is better, nor for `cpu` and `memory`.
    pub(crate) decrease: Option<NumberOrText>,
    /// How `ratio` and `increase` work together when both are given.
    #[schemars(extend("default" = "both"))]
    pub(crate) combine: Option<Combine>,
}

/// How `ratio` and `increase` work together.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Combine {
    /// A breach needs both to be exceeded.
    Both,
    /// Either alone is a breach.
    Either,
}

/// What a breach does.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum OnBreach {
    /// Roll back.
    Rollback,
    /// Pause and tell people.
    Pause,
    /// Tell people. Such a criterion never keeps a stage from passing.
    Warn,
}

/// How much a criterion weighs in the health score.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Severity {
    /// Twice.
    Critical,
    /// Once.
    Warning,
}

/// A limit of the canary alone that rolls back at once. Under `sequential` those of rates and latencies act once the limit is surely broken;
/// all others when a value is above it: of requests over `window`, of `cpu`, `memory` and `restarts` the last one that was measured.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Guard {
    /// Its name in output. `outage` replaces the guard that every release has.
    pub(crate) name: Name,
    /// A declared or built-in metric. Needed, unless the guard is switched off.
    pub(crate) metric: Option<String>,
    /// The canary's value may not be above this, in the metric's unit. Needed, unless the guard is switched off. Under `sequential` a rate's is above
    /// `0%` and at most `98%`.
    pub(crate) max: Option<NumberOrText>,
    /// How far it looks back at requests. Under `sequential` not for rates and latencies, of which all evidence counts. Default: `10s`.
    pub(crate) window: Option<Duration>,
    /// The least number of the canary's requests in the window before it acts. Under `sequential` not for rates and latencies. Default: `20`.
    pub(crate) min_requests: Option<u64>,
    /// Switches a guard off that every release has: `{name: outage, off: true}`.
    pub(crate) off: Option<bool>,
}
