//! How traffic is judged.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Alert, Arms, Criterion, Duration, Guard, Name, NumberOrText, Percentage, PrometheusMetric, Source};

/// How traffic is judged, and what follows when it cannot be.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Analysis {
    /// Which judge decides. Fields that are for another judge are errors.
    #[schemars(extend("default" = "sequential"))]
    pub(crate) judge: Option<Judge>,
    /// Under `judge: sequential`: the probability that a canary which is no worse than stable is ever rolled back, per release, over all that is
    /// judged by evidence, in all stages and looks; `0.01%` to `20%`. Limits that are looked at as they stand are not in it: `request-rate`,
    /// `restarts`, guards on `cpu` and `memory`. A tenth of it needs about half again as many failed requests for a rollback. Default: `1%`.
    pub(crate) alpha: Option<Percentage>,
    /// Under `judge: sequential`: the probability that a canary exactly at the tolerance of a criterion passes that criterion in a stage;
    /// `0.1%` to `30%`. A smaller one needs more requests for a pass. Default: `5%`.
    pub(crate) beta: Option<Percentage>,
    /// What the traffic usually is.
    pub(crate) expect: Option<Expectation>,
    /// Under `judge: kayenta`: when its score passes, and how often it is made.
    pub(crate) kayenta: Option<Kayenta>,
    /// With `sources`: time between two looks at them, from `1s` on. Default: `15s`. Under `judge: threshold` also the time between two evaluations of
    /// the criteria; guards are evaluated on every observation. Default there: `1s`.
    pub(crate) interval: Option<Duration>,
    /// Under `judge: threshold`: how far an evaluation looks back; not shorter than `interval`. Default: `30s`.
    pub(crate) window: Option<Duration>,
    /// What follows at a stage's `maxHold` when there is no usable data: not one request, a metric without a value, or nothing measured lately.
    #[schemars(extend("default" = "hold"))]
    pub(crate) on_no_data: Option<OnNoData>,
    /// What follows at a stage's `maxHold` when the data does not decide. Under `sequential` the usual reason is that a criterion needs more
    /// requests, and it says how many; under `threshold` too small a sample, or a breach that has not lasted yet; under `kayenta` a score between
    /// `marginal` and `pass`.
    #[schemars(extend("default" = "hold"))]
    pub(crate) on_inconclusive: Option<OnInconclusive>,
    /// What follows when both versions break the same `max` or `min`: traffic leaves the canary, and then this.
    pub(crate) retreat: Option<Retreat>,
    /// Others who measure, by name.
    pub(crate) sources: Option<BTreeMap<String, Source>>,
    /// What the versions are called there. Default: `stable` and `canary`.
    pub(crate) arms: Option<Arms>,
    /// Alerts that take the traffic from the canary at once, if they begin to fire after the release began. One that fires before keeps the release
    /// from starting.
    #[schemars(length(max = 50))]
    pub(crate) alerts: Option<Vec<Alert>>,
    /// Names for metrics, and metrics of `sources`. Criteria may name a built-in metric directly as well.
    #[schemars(length(max = 100))]
    pub(crate) metrics: Option<Vec<DeclaredMetric>>,
    /// What must hold in every stage and during the bake, as far as it is not about stable; what is goes on under `sequential`, against what
    /// stable last was. Default: under `sequential` an `error-rate` that is
    /// not both 1.5 times and 0.5 percentage points above stable's, and a `latency-any` of at most 1.5 times stable's; under `threshold` an
    /// `error-rate` of at most 5 % that is not both 1.5 times and 0.5 percentage points above stable's, and a `latency-p99` of at most 1.5 times
    /// stable's, each broken three times in a row; under `kayenta` an `error-rate` and a `latency-p99` that are not higher than stable's.
    #[schemars(length(max = 50))]
    pub(crate) criteria: Option<Vec<Criterion>>,
    /// Limits of the canary alone that roll back at once. Beside them there is `outage`, unless it is given or switched off here: under
    /// `sequential` an error rate that is surely above 5 %, under the other judges one above 50 % over 10 s, from 10 requests on.
    #[schemars(length(max = 50))]
    pub(crate) guards: Option<Vec<Guard>>,
}

/// Which judge decides.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Judge {
    /// Weighs every request as evidence and decides as soon as there is enough of it, however often it looks. It needs neither patience nor
    /// sample sizes: how often it may be wrong is what `alpha` and `beta` say.
    Sequential,
    /// Compares windowed values with limits, with `for`, `consecutive` and `cumulative`.
    Threshold,
    /// Scores time series of the metrics by rank tests, as Kayenta does. For those who have its scores already.
    Kayenta,
}

/// What the traffic usually is. Forecasts of `serin plan` and `serin check` are made with it; nothing is decided by it, save that `errors` is
/// taken for stable's rate until stable was seen.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Expectation {
    /// Requests per second of both versions together: `100` or `100rps`.
    pub(crate) rps: Option<NumberOrText>,
    /// Stable's usual share of errors: `0.5%`. Criteria on `error-rate` take it unless they have an `expect` of their own.
    pub(crate) errors: Option<Percentage>,
}

/// When Kayenta's score passes. The score is the share of criteria, from 0 to 100, whose values are neither higher nor lower on the canary
/// than they may be.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Kayenta {
    /// A stage passes with a score of at least this.
    #[schemars(range(min = 0, max = 100), extend("default" = 95))]
    pub(crate) pass: Option<f64>,
    /// A score below this fails the criteria that differ; at most `pass`. Default: `75`, or `pass` if that is lower.
    #[schemars(range(min = 0, max = 100))]
    pub(crate) marginal: Option<f64>,
    /// Time between two scores, counted from the begin of the stage.
    #[schemars(extend("default" = "5m"))]
    pub(crate) interval: Option<Duration>,
    /// The time that one value of the time series stands for; at most `interval`. Fewer than five values are not compared. Default: `1m`, or `interval` if that is shorter.
    pub(crate) step: Option<Duration>,
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
    /// If stable is seen to keep its limits again within this time without the canary, the canary is the cause and is rolled back. Trouble
    /// from elsewhere that ends within it by chance is blamed on the canary as well, so it should be short.
    #[schemars(extend("default" = "15s"))]
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

/// A metric: a name for a built-in one, or what a source is asked. Exactly one of `builtin` and `prometheus`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct DeclaredMetric {
    /// The name that criteria and guards use.
    pub(crate) name: Name,
    /// The built-in metric that it stands for.
    #[serde(default)]
    #[schemars(schema_with = "crate::schema::builtin_metric")]
    pub(crate) builtin: Option<String>,
    /// What a Prometheus is asked.
    pub(crate) prometheus: Option<PrometheusMetric>,
}
