//! What the plan as a whole can never decide, whatever the traffic, at the places of the document that say so.

use serin_core::{forecast::refusals, plan::Plan};

use super::{Context, criterion::Taken};
use crate::tree::Path;

/// Reports every refusal of the plan. `taken` and `of_stages`: the places of the criteria of the release and of each stage;
/// default criteria have none and are reported at the strategy.
pub(super) fn check(plan: &Plan, taken: &Taken, of_stages: &[Taken], strategy: &Path, cx: &mut Context<'_>) {
    for refusal in refusals(plan) {
        let places = refusal.stage.and_then(|stage| of_stages.get(stage)).unwrap_or(taken);
        let place = places.get(&refusal.criterion).and_then(Option::as_ref);
        let place = place.map_or_else(|| strategy.clone(), |place| place.key("metric"));
        cx.push(cx.error(&place, "undecidable", refusal.why).help(refusal.help));
    }
}
