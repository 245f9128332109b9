//! The steps in which traffic moves.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Criterion, Duration, Name, UrlPath, Weight};

/// The steps in which traffic moves: exactly one of these.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub(crate) struct Strategy {
    /// The canary gets more traffic stage by stage, and all of it at the end.
    pub(crate) canary: Option<Canary>,
    /// The canary is looked at through an address of its own, and then gets all traffic at once.
    pub(crate) blue_green: Option<BlueGreen>,
}

/// A blue-green release: green (the canary) is deployed without traffic and looked at through its preview address (on one machine
/// `traffic.embedded.preview`, in a cluster its own Service); then it gets everything at once, while blue (stable) stays warm for the way back.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct BlueGreen {
    /// What green must show before anybody is sent to it.
    pub(crate) preview: Preview,
    /// How long green is measured with all traffic while blue stays warm, one command back. It needs at least one request and every criterion to
    /// end, and traffic that shows the switch. If no replica of green is ready in this time or during `retain`, traffic goes back at once.
    #[schemars(extend("default" = "10m"))]
    pub(crate) bake: Option<Duration>,
    /// How long blue is kept running after the bake. The release goes on as long, and `serin abort` goes back to blue.
    #[schemars(extend("default" = "0s"))]
    pub(crate) retain: Option<Duration>,
}

/// What the canary must show through the preview address. At least one of `checks`, `minRequests`, `criteria` and `gate: manual`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Preview {
    /// How long the canary is looked at, at least.
    #[schemars(extend("default" = "10s"))]
    pub(crate) hold: Option<Duration>,
    /// The most time before `onNoData` and `onInconclusive` act. Default: three times `hold`, or `hold` and 10 minutes if that is longer.
    pub(crate) max_hold: Option<Duration>,
    /// The least number of requests through the preview address, those of `checks` included.
    #[schemars(extend("default" = 0))]
    pub(crate) min_requests: Option<u64>,
    /// In a cluster: host and port that lead to the canary. Default: the canary's Service with its first port.
    #[schemars(regex(pattern = r"^[A-Za-z0-9.-]{1,253}:[0-9]{1,5}$"), extend("examples" = ["checkout-canary.shop.svc:80"]))]
    pub(crate) address: Option<String>,
    /// What Serin asks the canary through the preview address, again and again, as long as it is open.
    #[schemars(length(max = 20))]
    pub(crate) checks: Option<Vec<Check>>,
    /// Criteria with limits of their own (`max`, `min`) that requests through the preview address must keep for the preview to pass. Those of
    /// `analysis` and the guards are held against these requests as well and may roll back, but need not pass here. Names must be new.
    #[schemars(length(max = 50))]
    pub(crate) criteria: Option<Vec<Criterion>>,
    /// What lets the passed preview go on.
    #[schemars(extend("default" = "auto"))]
    pub(crate) gate: Option<Gate>,
}

/// Something that is asked of the canary through the preview address.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Check {
    /// Its name in output. Default: the path.
    pub(crate) name: Option<Name>,
    /// A GET.
    pub(crate) http: HttpCheck,
}

/// A GET through the preview address, and what is expected of the answer.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct HttpCheck {
    /// Path, with a query if one is needed.
    pub(crate) path: UrlPath,
    /// The status of the answer. Default: any from 200 to 399.
    #[schemars(range(min = 200, max = 599))]
    pub(crate) status: Option<u16>,
    /// Time from an answer to the next request.
    #[schemars(extend("default" = "1s"))]
    pub(crate) every: Option<Duration>,
    /// How long an answer may take.
    #[schemars(extend("default" = "2s"))]
    pub(crate) timeout: Option<Duration>,
    /// How often in a row it must succeed for the preview to pass.
    #[schemars(range(min = 1, max = 1000), extend("default" = 3))]
    pub(crate) successes: Option<u32>,
    /// How often in a row it may fail: that many failures roll the release back.
    #[schemars(range(min = 1, max = 1000), extend("default" = 3))]
    pub(crate) failures: Option<u32>,
}

/// A canary release: `stages`, `preset` or `linear`, and what follows.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["stages"]}, {"required": ["preset"]}, {"required": ["linear"]}]))]
pub(crate) struct Canary {
    /// What the canary must show through its preview address before the first stage. Without it, stages begin as soon as it is ready.
    pub(crate) preview: Option<Preview>,
    /// The stages in order, weights ascending. After the last one the canary gets everything.
    #[schemars(length(min = 1, max = 100))]
    pub(crate) stages: Option<Vec<Stage>>,
    /// Stages by name.
    pub(crate) preset: Option<Preset>,
    /// Stages in equal steps.
    pub(crate) linear: Option<Linear>,
    /// How long the canary is measured at 100 % while stable stays warm, one command back. Unless it is `0s`, it needs at least one request and
    /// every criterion to end.
    #[schemars(extend("default" = "0s"))]
    pub(crate) bake: Option<Duration>,
    /// How long the old version is kept running after the bake. The release goes on as long, and `serin abort` goes back to it.
    #[schemars(extend("default" = "0s"))]
    pub(crate) retain: Option<Duration>,
}

/// One stage.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Stage {
    /// The canary's share of traffic in percent, at most two decimals.
    pub(crate) weight: Weight,
    /// How long the stage is measured at least, from the moment the router was seen to give the canary its weight. Pauses do not count.
    pub(crate) hold: Duration,
    /// The least time before an early pass; it needs `early: true`. Default: a minute, or `hold` if that is shorter.
    pub(crate) min_hold: Option<Duration>,
    /// The most time before `onNoData` and `onInconclusive` act. Default: three times `hold`, or `hold` and 10 minutes if that is longer.
    pub(crate) max_hold: Option<Duration>,
    /// Whether the stage may pass from `minHold` on, once it has its requests and every criterion passes, instead of at `hold`.
    #[schemars(extend("default" = false))]
    pub(crate) early: Option<bool>,
    /// The least number of canary requests before the stage may pass. Only requests that came by weight count, not those of `match`.
    #[schemars(extend("default" = 1000))]
    pub(crate) min_requests: Option<u64>,
    /// What lets the passed stage go on.
    #[schemars(extend("default" = "auto"))]
    pub(crate) gate: Option<Gate>,
    /// Criteria of this stage alone, beside those of `analysis`. Their names must be new.
    #[schemars(length(max = 50))]
    pub(crate) criteria: Option<Vec<Criterion>>,
}

/// What lets a passed stage go on.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Gate {
    /// Nothing more.
    Auto,
    /// A person's approval.
    Manual,
}

/// Stages by name.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Preset {
    /// 5 % for 12 h, 25 % for 6 h, 50 % for 6 h; then everything, with a bake of 24 h.
    Conservative,
    /// 5 % for 30 min, 20 % for 1 h, 50 % for 2 h, 80 % for 1 h; then everything, with a bake of 24 h.
    Progressive,
    /// 5 % to 50 % in steps of 5 % every 5 min; then everything.
    Linear,
}

/// Stages in equal steps.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Linear {
    /// Weight of the first stage in percent.
    pub(crate) from: Weight,
    /// How much each stage adds, in percent. It may make at most 100 stages.
    pub(crate) step: Weight,
    /// Weight of the last stage in percent; from `from` on.
    pub(crate) to: Weight,
    /// How long each stage is measured, as `hold` of a stage.
    pub(crate) every: Duration,
    /// As `early` of a stage.
    #[schemars(extend("default" = false))]
    pub(crate) early: Option<bool>,
    /// As `minRequests` of a stage.
    #[schemars(extend("default" = 1000))]
    pub(crate) min_requests: Option<u64>,
    /// What lets a passed stage go on.
    #[schemars(extend("default" = "auto"))]
    pub(crate) gate: Option<Gate>,
}
