//! What the expected traffic cannot decide before a stage is given up. Needs `analysis.expect.rps`; without it nothing is known.

use serde::{Deserialize, Serialize};

use super::{GoodCanary, StageForecast, TestForecast, Within, forecast};
use crate::{
    format_count, human_duration,
    plan::{OnBreach, Plan},
};

/// Something that will probably not work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// The stage, from 0; `None` for the bake.
    pub stage: Option<usize>,
    /// Name of the criterion or guard; `None` if it is about the stage.
    pub criterion: Option<String>,
    /// What, in a sentence without a full stop.
    pub text: String,
    /// What to do.
    pub help: String,
}

/// Everything that the expected traffic cannot decide: stages that will not get their requests, criteria that keep a canary
/// as good as stable from passing, and tests that find no fault of the sizes that are looked at. Criteria that only warn never
/// keep a stage from passing and are left out.
#[must_use]
pub fn warnings(plan: &Plan) -> Vec<Warning> {
    forecast(plan).iter().flat_map(of_stage).collect()
}

fn of_stage(stage: &StageForecast) -> Vec<Warning> {
    let name = stage.stage.map_or_else(|| "the bake".to_owned(), |_| format!("the stage at {}", stage.weight));
    let help = "make the stage longer or heavier, or loosen the criterion";
    let limit = human_duration(stage.max_hold_ms);
    let mut warnings = Vec::new();
    let mut warn = |criterion: Option<&TestForecast>, text: String, help: &str| {
        let criterion = criterion.map(|test| test.criterion.clone());
        warnings.push(Warning { stage: stage.stage, criterion, text, help: help.to_owned() });
    };
    if stage.least_requests.within == Some(Within::Neither) {
        let text = format!(
            "{name} waits for {} canary requests, which take about {}; it is given up after {limit}",
            format_count(stage.least_requests.requests),
            human_duration(stage.least_requests.after_ms.unwrap_or(0))
        );
        warn(None, text, "lower `minRequests`, or make the stage longer or heavier");
    }
    for test in stage.tests.iter().filter(|test| test.on_breach != OnBreach::Warn) {
        if let Some(pass) = test.passes.iter().find(|pass| pass.canary != GoodCanary::Clean && pass.needs.within == Some(Within::Neither)) {
            let canary = if pass.canary == GoodCanary::Equal { "as good as stable" } else { "at half of the limit" };
            let text = format!(
                "{name} cannot show that a canary {canary} keeps {}: about {}, and it is given up after {limit}",
                test.criterion,
                human_duration(pass.needs.after_ms.unwrap_or(0))
            );
            warn(Some(test), text, help);
        }
        let largest = test.faults.iter().rev().find_map(|fault| fault.needs.map(|needs| (fault.times, needs)));
        if let Some((times, needs)) = largest.filter(|(_, needs)| needs.within == Some(Within::Neither)) {
            let text = format!(
                "{name} is too short to find even {times}× with {}: about {}, and it is given up after {limit}",
                test.criterion,
                human_duration(needs.after_ms.unwrap_or(0))
            );
            warn(Some(test), text, help);
        }
        if let Some(earliest_ms) = test.earliest_ms.filter(|earliest_ms| *earliest_ms > stage.max_hold_ms) {
            let earliest = human_duration(earliest_ms);
            let text =
                format!("{name} is too short for {}: decided after {earliest} at the earliest, given up after {limit}", test.criterion);
            warn(Some(test), text, "make the stage longer, or `onBreach: warn`");
        }
    }
    warnings
}
