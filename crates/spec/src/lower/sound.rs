//! Errors of meaning in the sound sections of a document that is broken elsewhere: so that they are seen in one go.
//!
//! A section (`workload`, `traffic`, `strategy`, `analysis`) is looked at if nothing has been reported about it. What depends on
//! a section that is not sound is left out rather than guessed at.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Basis, Context, analysis, decidable, external, pair, processes, routers, strategy, traffic};
use crate::{raw, tree::Path};

/// Reports what is wrong with the meaning of the sound sections.
pub(crate) fn report(document: &Value, cx: &mut Context<'_>) {
    let spec = Path::root().key("spec");
    let workload = section::<raw::Workload>(document, "workload", cx);
    let unmeasured = workload.as_ref().is_some_and(|workload| workload.external.is_some() || workload.kubernetes.is_some());
    if let Some(workload) = workload {
        let at = spec.key("workload");
        if let Some(given) = workload.processes {
            processes::lower(given, &at.key("processes"), cx);
        }
        if let Some(given) = workload.external {
            external::lower(given, &at.key("external"), cx);
        }
        if let Some(given) = workload.kubernetes {
            pair::lower(given, &at.key("kubernetes"), cx);
        }
    }
    if let Some(given) = section::<raw::Traffic>(document, "traffic", cx) {
        let at = spec.key("traffic");
        match given.embedded {
            Some(given) => drop(traffic::lower(given, &at.key("embedded"), cx)),
            None => drop(routers::lower(given, &at, cx)),
        }
    }
    // Which metrics and names there are is known only from a sound analysis; leaving it out is sound as well.
    let is_left_out = document.pointer("/spec").is_some_and(|spec| spec.is_object() && spec.get("analysis").is_none());
    let given = section::<raw::Analysis>(document, "analysis", cx).or_else(|| is_left_out.then(raw::Analysis::default));
    let Some(given) = given else { return };
    let at_analysis = spec.key("analysis");
    // The name only fills templates, which nobody sees here.
    let (basis, measures) = Basis::new(Some(&given), !unmeasured, "release", &at_analysis, cx);
    let strategy = section::<raw::Strategy>(document, "strategy", cx);
    let (mut analysis, taken) = analysis::lower(given, &basis, &at_analysis, cx);
    analysis.poll_ms = (!measures.queries.is_empty()).then_some(measures.interval_ms);
    if let Some(given) = strategy {
        let at = strategy::place(&given);
        let strategy = strategy::lower(given, &basis, &taken, &at, cx);
        decidable::check(&analysis, &taken, &strategy, cx);
    }
}

/// A section if it is there and nothing has been said about it.
fn section<T: DeserializeOwned>(document: &Value, name: &str, cx: &Context<'_>) -> Option<T> {
    let value = document.pointer("/spec")?.get(name)?;
    if cx.has_reported(&format!("spec.{name}")) {
        return None;
    }
    serde_json::from_value(value.clone()).ok()
}
