//! How traffic is judged.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Duration, Name, NumberOrText};

/// How traffic is judged, and what follows when it cannot be.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Analysis {
    /// Which judge decides.
    #[schemars(extend("default" = "threshold"))]
    pub(crate) judge: Option<Judge>,
    /// Time between two evaluations of the criteria. Guards are evaluated on every observation.
    #[schemars(extend("default" = "1s"))]
    pub(crate) interval: Option<Duration>,
    /// How far an evaluation looks back; not shorter than `interval`.
    #[schemars(extend("default" = "30s"))]
    pub(crate) window: Option<Duration>,
    /// What follows at a stage's `maxHold` when there is no usable data: not one request, a metric without a value, or nothing measured lately.
    #[schemars(extend("default" = "hold"))]
    pub(crate) on_no_data: Option<OnNoData>,
    /// What follows at a stage's `maxHold` when the data does not decide: too few requests, too small a sample, a breach that has not lasted yet.
    #[schemars(extend("default" = "hold"))]
    pub(crate) on_inconclusive: Option<OnInconclusive>,
    /// What follows when both versions break the same `max` or `min`: traffic leaves the canary, and then this.
    pub(crate) retreat: Option<Retreat>,
    /// Names for metrics. Criteria may name a built-in metric directly as well.
    #[schemars(length(max = 100))]
    pub(crate) metrics: Option<Vec<DeclaredMetric>>,
    /// What must hold in every stage, and during the bake as far as it is not about stable. Default: an error rate of at most 5 % that is not both 1.5 times and 0.5 percentage
    /// points above stable's, and a latency-p99 of at most 1.5 times stable's, each broken three times in a row.
    #[schemars(length(max = 50))]
    pub(crate) criteria: Option<Vec<Criterion>>,
    /// Limits that act on any observation, at once. Beside them there is `outage` (an error rate above 50 % over 10 s, from 10 requests on),
    /// unless it is given or switched off here.
    #[schemars(length(max = 50))]
    pub(crate) guards: Option<Vec<Guard>>,
}

/// Which judge decides.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Judge {
    /// Compares windowed values with limits, with `for` and `consecutive`.
    Threshold,
}

/// What follows when there is no usable data.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum OnNoData {
    /// Pause and tell people.
    Hold,
    /// Roll back.
    Rollback,
    /// Go on without evidence.
    Continue,
}

/// What follows when the data does not decide.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum OnInconclusive {
    /// Pause and tell people.
    Hold,
    /// Go on undecided.
    Advance,
    /// Roll back.
    Rollback,
}

/// What follows after traffic left the canary because both versions broke a limit.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Retreat {
    /// If stable is seen to keep its limits again within this time without the canary, the canary is the cause and is rolled back.
    #[schemars(extend("default" = "1m"))]
    pub(crate) recover_within: Option<Duration>,
    /// What follows if stable does not recover.
    #[schemars(extend("default" = "pause"))]
    pub(crate) otherwise: Option<RetreatEnd>,
}

/// What follows if stable does not recover without the canary.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum RetreatEnd {
    /// Stay without canary traffic until a person decides.
    Pause,
    /// Go back to the stage once stable keeps its limits again, three times at most; then pause.
    Resume,
    /// Roll back.
    Rollback,
}

/// A name for a metric.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct DeclaredMetric {
    /// The name that criteria and guards use.
    pub(crate) name: Name,
    /// The built-in metric that it stands for.
    #[schemars(schema_with = "crate::schema::builtin_metric")]
    pub(crate) builtin: String,
}

/// A rule about one metric: `max`, `min`, `versusStable` or several of them. Breaking any is a breach.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Criterion {
    /// A declared or built-in metric: error-rate, 5xx-rate, 4xx-rate, latency-p50, latency-p90, latency-p95, latency-p99, request-rate, cpu,
    /// memory, restarts.
    pub(crate) metric: String,
    /// Its name in output. Default: that of the metric.
    pub(crate) name: Option<Name>,
    /// The canary's value may not be above this: `5%` for rates, `500ms` for latencies, `100rps`, `70%` of a core, `1GiB`, or a count.
    pub(crate) max: Option<NumberOrText>,
    /// The canary's value may not be below this, in the same unit.
    pub(crate) min: Option<NumberOrText>,
    /// How the canary's value may differ from stable's over the same time. It applies in stages below 100 %, where there is a stable to
    /// compare with.
    pub(crate) versus_stable: Option<VersusStable>,
    /// What a breach does.
    #[schemars(extend("default" = "rollback"))]
    pub(crate) on_breach: Option<OnBreach>,
    /// How much it weighs in the health score.
    #[schemars(extend("default" = "critical"))]
    pub(crate) severity: Option<Severity>,
    /// How long a breach must last before it counts. Until then the criterion is undecided.
    #[serde(rename = "for")]
    #[schemars(extend("default" = "0s"))]
    pub(crate) for_: Option<Duration>,
    /// In how many evaluations in a row a breach must be seen before it counts. Until then the criterion is undecided.
    #[schemars(range(min = 1, max = 1000), extend("default" = 1))]
    pub(crate) consecutive: Option<u32>,
    /// The least number of requests, of the canary and of stable where it is compared. If the window has some but fewer, the whole stage is
    /// looked at; if that has fewer too, the criterion is undecided. Metrics that are not made of requests need none.
    #[schemars(extend("default" = 20))]
    pub(crate) min_sample: Option<u64>,
}

/// Limits relative to stable, measured over the same time. At least one.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct VersusStable {
    /// The canary's value may be at most this many times stable's; from 1.
    #[schemars(range(max = 1000), extend("examples" = [1.5]))]
    pub(crate) ratio: Option<f64>,
    /// The canary's value may be at most stable's plus this: `0.5pp` for rates and `cpu`, a duration for latencies, a size for `memory`.
    pub(crate) increase: Option<NumberOrText>,
    /// The canary's value may be at most this much lower, in percent of stable's: `2%`.
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

/// A limit that is looked at with every observation and rolls back at once.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Guard {
    /// Its name in output. `outage` replaces the guard that every release has.
    pub(crate) name: Name,
    /// A declared or built-in metric. Needed, unless the guard is switched off.
    pub(crate) metric: Option<String>,
    /// The canary's value may not be above this, in the metric's unit. Needed, unless the guard is switched off.
    pub(crate) max: Option<NumberOrText>,
    /// How far it looks back.
    #[schemars(extend("default" = "10s"))]
    pub(crate) window: Option<Duration>,
    /// The least number of the canary's requests in the window before it acts.
    #[schemars(extend("default" = 20))]
    pub(crate) min_requests: Option<u64>,
    /// Switches a guard off that every release has: `{name: outage, off: true}`.
    pub(crate) off: Option<bool>,
}
