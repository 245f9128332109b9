//! From the raw document to the validated release: meaning is checked, defaults are filled in, the plan is made.
//!
//! Every function here returns a value even if it reported an error, so that all errors are found in one go; the result is used only if there
//! were none.

mod analysis;
mod arguments;
mod context;
mod criterion;
mod decidable;
mod external;
mod fit;
mod guard;
mod http;
mod judge;
mod limit;
mod measures;
mod metrics;
mod processes;
mod refused;
pub(crate) mod server;
pub(crate) mod sound;
mod strategy;
mod traffic;

pub(crate) use context::Context;

use serin_core::plan::Plan;

use crate::{
    raw::{self, Document},
    tree::Path,
    validated::{Measures, Release, Workload},
};

/// What criteria and guards are read by.
struct Basis {
    metrics: metrics::Metrics,
    judging: judge::Judging,
}

impl Basis {
    /// `processes_measured`: Serin runs the processes itself and sees what they use. `release`: the document's name.
    fn new(
        analysis: Option<&raw::Analysis>,
        processes_measured: bool,
        release: &str,
        at_analysis: &Path,
        cx: &mut Context<'_>,
    ) -> (Self, Measures) {
        let judging = judge::Judging::new(analysis, at_analysis, cx);
        let measures::Lowered { measures, metrics, whole } = measures::lower(analysis, release, at_analysis, cx);
        let metrics = metrics::Metrics::new(analysis, processes_measured, (metrics, whole), at_analysis, cx);
        (Self { metrics, judging }, measures)
    }
}

/// The name of the router that the built-in proxy is in plans.
const EMBEDDED_TARGET: &str = "embedded";

/// A document as a release; `None` if errors were reported.
pub(crate) fn lower(document: Document, document_hash: String, cx: &mut Context<'_>) -> Option<Release> {
    let spec = Path::root().key("spec");
    let at_workload = spec.key("workload");
    let (workload, deploy_timeout_ms) = match (document.spec.workload.processes, document.spec.workload.external) {
        (Some(processes), _) => {
            let processes = processes::lower(processes, &at_workload.key("processes"), cx);
            let timeout_ms = processes::deploy_timeout_ms(&processes);
            (Some(Workload::Processes(Box::new(processes))), timeout_ms)
        }
        (None, Some(external)) => {
            let external = external::lower(external, &at_workload.key("external"), cx);
            let timeout_ms = external::deploy_timeout_ms(&external);
            (Some(Workload::External(external)), timeout_ms)
        }
        // Excluded by the schema.
        (None, None) => (None, 0),
    };
    let at_embedded = spec.key("traffic").key("embedded");
    let traffic = traffic::lower(document.spec.traffic.embedded, &at_embedded, cx);
    if let Some(Workload::External(external)) = &workload {
        external::refuse_loop(external, traffic.listen, &at_workload.key("external"), cx);
    }
    let measured = matches!(workload, Some(Workload::Processes(_)));
    let at_analysis = spec.key("analysis");
    let (basis, mut measures) = Basis::new(document.spec.analysis.as_ref(), measured, &document.metadata.name.0, &at_analysis, cx);
    let (mut analysis, taken) = analysis::lower(document.spec.analysis.unwrap_or_default(), &basis, &at_analysis, cx);
    let strategy = strategy::lower(document.spec.strategy.canary, &basis, &taken, &spec.key("strategy").key("canary"), cx);
    analysis.poll_ms = (!measures.queries.is_empty()).then_some(measures.interval_ms);
    decidable::check(&analysis, &taken, &strategy, cx);
    measures::warn_of_mixtures(&analysis, &taken, &traffic, cx);
    let criteria = analysis.criteria.iter().chain(strategy.steps.iter().flat_map(|step| &step.criteria)).map(|one| one.metric);
    let used: Vec<_> =
        criteria.chain(analysis.guards.iter().map(|guard| guard.metric)).filter_map(|metric| metric.external().copied()).collect();
    measures.queries.retain(|query| used.iter().any(|metric| metric.name == query.metric));
    if cx.has_errors() {
        return None;
    }
    let name = document.metadata.name.0;
    let plan = Plan {
        release: name.clone(),
        targets: vec![EMBEDDED_TARGET.to_owned()],
        steps: strategy.steps,
        bake_ms: strategy.bake_ms,
        retain_ms: strategy.retain_ms,
        analysis,
        deploy_timeout_ms,
        sticky: traffic.sticky.is_some(),
    };
    refused::check(&plan, &taken, &strategy.own_criteria, &spec.key("strategy").key("canary"), cx);
    if cx.has_errors() {
        return None;
    }
    Some(Release { name, document_hash, plan, workload: workload?, traffic, measures })
}
